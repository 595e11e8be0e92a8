'use strict'
// `ottla/testing`: a real broker in this process, for the tests of your program.

const { native } = require('./native.cjs')
const { call } = require('./errors.cjs')
const { Post } = require('./post.cjs')
const { pairsOf } = require('./options.cjs')

const token = Symbol('start')

class Cluster {
  #native
  #post = new Post(this)
  #servers = null

  constructor (mark) {
    if (mark !== token) throw new TypeError('a cluster is started with `await Cluster.start()`')
    const self = new WeakRef(this)
    this.#native = new native.Cluster(() => self.deref()?.#woken())
  }

  /**
   * Starts a broker on a free port. `properties` are keys of Kafka's `server.properties`; its data are in a temporary folder
   * that goes with it, unless `dataDir` says where. It keeps no process alive.
   */
  static async start (properties = {}, { dataDir } = {}) {
    const cluster = new Cluster(token)
    cluster.#servers = await cluster.#post.ask(id => cluster.#native.start(id, pairsOf(properties), dataDir))
    return cluster
  }

  #woken () {
    this.#post.deliver(this.#native.takeMail())
  }

  /** What a client takes as `bootstrap.servers`. */
  get bootstrapServers () { return this.#servers }

  /** Has the broker do wrong, as `api=Produce topic=gps error_after=6 times=2`. */
  fault (rule) { call(() => this.#native.fault(rule)) }
  clearFaults () { call(() => this.#native.clearFaults()) }
  /** Ends all connections. */
  disconnectAll () { call(() => this.#native.disconnectAll()) }

  /** Ends it. A second call does nothing. */
  stop () {
    return this.#post.ask(id => this.#native.stop(id))
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')] () {
    return this.stop()
  }
}

module.exports = { Cluster }
