'use strict'
// The consumer. The native half fetches ahead; a poll takes what is there, without waiting, and waits here when nothing is.

const { native } = require('./native.cjs')
const { classes: { ArgumentError, ClosedError }, call } = require('./errors.cjs')
const { hold, release } = require('./life.cjs')
const { Post, abortable } = require('./post.cjs')
const { pairsOf, milliseconds } = require('./options.cjs')
const { Store, Message, Batch } = require('./message.cjs')
const { one, listOf, isPair, nameOf, objects, offsetText, timeOf } = require('./partitions.cjs')
const { Listeners, camel, committedOf, handedRows, offsetRows, closedOf, eventOf, progressOf, healthOf } = require('./group.cjs')

/** Milliseconds after which other things of the program get a turn, however many records there are. */
const TURN = 2
/** Milliseconds after which the native half hears how many messages are processed that are handed over one by one; it would not do more with it. */
const TELL = 50
const BEGINNING = -2
const END = -1

class Consumer {
  #native
  #post = new Post(this)
  /** Set while topics are being looked up. */
  #assigning = null
  #closed = false
  #topics = []
  #topicOf = number => (this.#topics[number] ??= this.#native.topic(number))
  // What was polled and not handed over yet.
  #store = null
  #picked = null
  #at = 0
  #length = 0
  // In a group: who is told, and whether records one by one tell how far they are.
  #listeners
  #inGroup = false
  #done = 0
  #toldAt = 0
  /** What closing told, or will tell. */
  #last = null
  // Those who wait for records.
  #waiting = []
  #turn = performance.now()

  constructor (options) {
    const { assign, topics, pattern, onAssigned, onRevoked, onLost, onEvent, ...config } = options ?? {}
    this.#listeners = new Listeners({ onAssigned, onRevoked, onLost, onEvent })
    const partitions = assign === undefined ? [] : listOf(assign)
    if (topics !== undefined && !(Array.isArray(topics) && topics.every(topic => typeof topic === 'string'))) {
      throw new ArgumentError('topics must be a list of names')
    }
    if (topics !== undefined && assign !== undefined) throw new ArgumentError('either topics or assign: both say what is read')
    const self = new WeakRef(this)
    this.#native = call(() => new native.Consumer(pairsOf(config), JSON.stringify(partitions), () => self.deref()?.#woken()))
    this.#inGroup = this.#native.inGroup()
    if (this.#inGroup || pattern !== undefined) {
      if (topics !== undefined || pattern !== undefined) this.#assigning = this.#subscribing(topics, pattern)
    } else if (topics !== undefined) this.#assignTopics(topics)
  }

  #subscribing (topics, pattern) {
    const subscribing = this.#post.ask(id => this.#native.connected(id), { quiet: true })
      .then(() => call(() => this.#subscribe(topics, pattern)))
    // Whoever reads is told; nobody need read.
    subscribing.then(() => { this.#assigning = null }, () => {})
    return subscribing
  }

  #subscribe (topics, pattern) {
    if (pattern === undefined) return this.#native.subscribe(JSON.stringify(topics))
    if (topics !== undefined) throw new ArgumentError('either topics or a pattern: both say what is read')
    return this.#native.subscribePattern(pattern instanceof RegExp ? pattern.source : String(pattern))
  }

  // ---- reading

  /**
   * The next messages: as soon as there are some, at most `maxRecords` (default `max.poll.records`). Resolves with an empty
   * batch after `timeout` milliseconds without any, with null when the consumer is closed.
   */
  async poll ({ maxRecords, timeout, signal } = {}) {
    const most = atMost(maxRecords)
    const until = timeout === undefined ? Infinity : performance.now() + milliseconds('timeout', timeout)
    if (signal?.aborted) throw signal.reason
    // Asked again after each wait: another reader may have been faster.
    while (this.#at >= this.#length) {
      if (!await this.#fill(most, until, signal)) return this.#closed ? null : new Batch(null, [])
    }
    return this.#takeBatch(most)
  }

  /** Batches, until the consumer is closed. */
  batches ({ maxRecords, signal } = {}) {
    const most = atMost(maxRecords)
    const next = async () => {
      while (this.#at >= this.#length) if (!await this.#fill(most, Infinity, signal)) return DONE
      return { value: this.#takeBatch(most), done: false }
    }
    return iterator(next)
  }

  /** Messages one by one, until the consumer is closed. Leaving the loop leaves the consumer open; another loop goes on. */
  [Symbol.asyncIterator] () {
    const slowly = async () => {
      while (this.#at >= this.#length) if (!await this.#fill(0, Infinity)) return DONE
      return { value: this.#takeMessage(), done: false }
    }
    const next = () => {
      if (this.#at < this.#length) return Promise.resolve({ value: this.#takeMessage(), done: false })
      return slowly()
    }
    return iterator(next)
  }

  #takeMessage () {
    const place = this.#at++
    if (this.#inGroup) {
      // Who asks for this one is done with those before it.
      this.#done = this.#numberOf(place)
      const now = performance.now()
      if (now - this.#toldAt >= TELL) {
        this.#toldAt = now
        this.#settle()
      }
    }
    return new Message(this.#store, this.#picked === null ? place : this.#picked[place])
  }

  /** Tells how many messages are processed. */
  #settle () {
    if (this.#done > 0) this.#native.processed(this.#done)
  }

  #takeBatch (most) {
    const end = most === 0 ? this.#length : Math.min(this.#length, this.#at + most)
    const whole = this.#picked === null && this.#at === 0 && end === this.#length
    const picked = whole ? null : Array.from({ length: end - this.#at }, (_, at) => this.#numberOf(this.#at + at))
    if (this.#inGroup && this.#at > 0) this.#native.processed(this.#numberOf(this.#at))
    this.#at = end
    return new Batch(this.#store, picked)
  }

  #numberOf (place) {
    return this.#picked === null ? place : this.#picked[place]
  }

  /** Waits until there are messages; false when the consumer is closed, or the time is over. */
  async #fill (most, until, signal) {
    if (this.#assigning) await this.#assigned(signal)
    for (;;) {
      if (signal?.aborted) throw signal.reason
      const now = performance.now()
      if (now - this.#turn > TURN) {
        await new Promise(resolve => setImmediate(resolve))
        this.#turn = performance.now()
      }
      // Another reader may have been here meanwhile.
      if (this.#at < this.#length) return true
      const polled = call(() => this.#native.poll(most))
      if (polled === null) {
        this.#closed = true
        return false
      }
      if (typeof polled === 'string') {
        await this.#handle(JSON.parse(polled))
        continue
      }
      if (polled !== undefined) {
        this.#store = new Store(polled, this.#topicOf)
        this.#picked = null
        this.#at = this.#done = 0
        this.#length = this.#store.length
        return true
      }
      if (until <= performance.now()) return false
      await this.#arrival(until, signal)
      this.#turn = performance.now()
    }
  }

  /** Waits until a poll may find something, or the time is over. The process stays alive meanwhile. */
  #arrival (until, signal) {
    let timer, woken
    hold(this)
    const arrived = new Promise(resolve => {
      woken = resolve
      this.#waiting.push(resolve)
      if (until !== Infinity) timer = setTimeout(resolve, until - performance.now())
      call(() => this.#native.arm())
    })
    return abortable(arrived, signal).finally(() => {
      clearTimeout(timer)
      release(this)
      const place = this.#waiting.indexOf(woken)
      if (place < 0) return
      // It gave up: when nobody waits, that is no sign of life.
      this.#waiting.splice(place, 1)
      if (this.#waiting.length === 0) call(() => this.#native.disarm())
    })
  }

  #woken () {
    this.#post.deliver(this.#native.takeMail())
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  // ---- groups

  /** Tells the program of an event, and then the group that it may go on. */
  async #handle (event) {
    try {
      await this.#listeners.tell(this, eventOf(event))
    } finally {
      if (event.name === 'revoked' && !this.#closed) call(() => this.#native.acknowledge())
    }
  }

  /** How many records of the last poll were handed over; -1 for all. */
  #out () {
    return this.#at < this.#length ? this.#numberOf(this.#at) : -1
  }

  /**
   * Reads these topics as a member of the group, instead of those before; or `{ pattern }`: all whose whole name matches. Partitions
   * come with a later call that asks for messages.
   */
  async subscribe (what) {
    await this.#connected()
    if (Array.isArray(what)) return call(() => this.#subscribe(what, undefined))
    if (what?.pattern === undefined) throw new ArgumentError('subscribe takes a list of topics, or { pattern }')
    call(() => this.#subscribe(undefined, what.pattern))
  }

  /** Commits what is processed, lets go of all partitions and leaves the group. */
  async unsubscribe ({ signal } = {}) {
    await this.#connected(signal)
    await this.#listeners.letGo(this)
    // A loop may have gone on meanwhile.
    this.#settle()
    this.#at = this.#length = this.#done = 0
    await this.#post.ask(id => this.#native.unsubscribe(id), { signal })
  }

  /** The topics subscribed to. */
  subscription () { return call(() => this.#native.subscription()) }

  /**
   * Commits all messages that were handed over; with `enableAutoOffsetStore: false` what was stored. Or those of a batch, up to a
   * message, or `[{ topic, partition, offset, metadata, leaderEpoch }]`. Rejects with a FencedError when the group went on without
   * this consumer: nothing is overwritten then.
   */
  async commit (what, { signal } = {}) {
    await this.#connected(signal)
    await this.#post.ask(id => {
      if (what === undefined || what === null) return this.#native.commit(id, this.#out())
      const handed = handedRows(what)
      return handed ? this.#native.commitHanded(id, handed) : this.#native.commitOffsets(id, offsetRows(what))
    }, { signal })
  }

  /** Begins to commit as `commit()`, and does not wait. `onEvent` hears of a failure. */
  commitAsync () { call(() => this.#native.commitInBackground(this.#out())) }

  /** Says that messages, or what lies before offsets, are processed: the next commit takes them. */
  storeOffsets (what) {
    const handed = handedRows(what)
    call(() => handed ? this.#native.storeHanded(handed) : this.#native.storeOffsets(offsetRows(what)))
  }

  /** The committed offset of each partition, asked of the group's coordinator; null for none. */
  async committed (partitions, { signal } = {}) {
    const list = JSON.stringify(listOf(partitions))
    return (await this.#post.ask(id => this.#native.committed(id, list), { signal })).map(committedOf)
  }

  /** Who this consumer is in its group. */
  groupMetadata () { return camel(JSON.parse(call(() => this.#native.groupMetadata()))) }

  /** Has the group divide its partitions anew, for a reason that only the program knows. Does not wait. */
  enforceRebalance (reason = '') { call(() => this.#native.enforceRebalance(String(reason))) }

  /** Says that processing goes on and messages will be asked for within so many milliseconds. */
  extendPoll (within) { call(() => this.#native.extendPoll(milliseconds('within', within))) }

  /** How far each partition is, and why it does not move. */
  progress () { return JSON.parse(call(() => this.#native.progress())).map(progressOf) }

  /** How the consumer is: its place in the group, its partitions, its memory. */
  health () { return healthOf(JSON.parse(call(() => this.#native.health()))) }

  /** In a group: what was polled and not handed over is read again. */
  #giveBack () {
    if (!this.#inGroup || this.#at >= this.#length) return
    this.#settle()
    const out = this.#out()
    const firsts = Array.from(this.#drop(() => true), ([topic, partition, offset]) => [topic, partition, String(offset)])
    call(() => this.#native.giveBack(out, JSON.stringify(firsts)))
  }

  // ---- what is read, and from where

  /** Reads exactly these partitions from now on; those that were read before keep their position. */
  async assign (partitions) {
    const list = listOf(partitions)
    await this.#connected()
    const stay = new Set(list.map(nameOf))
    this.#drop(partition => !stay.has(nameOf(partition)))
    call(() => this.#native.assign(JSON.stringify(list)))
  }

  #assignTopics (topics) {
    this.#assigning = this.#post.ask(id => this.#native.assignTopics(id, JSON.stringify(topics)), { quiet: true })
    // Whoever reads is told; nobody need read.
    this.#assigning.then(() => { this.#assigning = null }, () => {})
  }

  #assigned (signal) {
    hold(this)
    return abortable(this.#assigning, signal).finally(() => release(this))
  }

  /** The partitions that are read. */
  assignment () { return objects(JSON.parse(call(() => this.#native.assignment()))) }
  /** Those among them that are paused. */
  paused () { return objects(JSON.parse(call(() => this.#native.paused()))) }

  /** Goes on at this offset. */
  async seek (partition, offset) {
    const [topic, number] = one(partition)
    const to = offsetText(offset)
    await this.#connected()
    this.#giveBack()
    call(() => this.#native.seek(topic, number, to))
    this.#drop(([of, at]) => of === topic && at === number)
  }

  seekToBeginning (partitions) { return this.#seekTo(partitions, BEGINNING) }
  seekToEnd (partitions) { return this.#seekTo(partitions, END) }

  /** Goes on at the first record that is not older: a Date, or milliseconds since 1970. */
  async seekToTimestamp (partition, timestamp) {
    const place = timeOf(timestamp)
    if (place < 0) throw new ArgumentError(`a timestamp must not be negative: ${place}`)
    return this.#seekTo([partition], place)
  }

  async #seekTo (partitions, place) {
    const list = partitions === undefined ? undefined : listOf(Array.isArray(partitions) && !isPair(partitions) ? partitions : [partitions])
    await this.#connected()
    this.#giveBack()
    for (const [topic, partition] of list ?? this.assignment().map(one)) {
      call(() => this.#native.seekTo(topic, partition, place))
      this.#drop(([of, at]) => of === topic && at === partition)
    }
  }

  /** Hands over nothing more of these partitions until `resume`. Nothing is lost. */
  async pause (partitions) {
    const list = listOf(partitions)
    await this.#connected()
    this.#giveBack()
    call(() => this.#native.pause(JSON.stringify(list), true))
    // What was polled and not handed over is read again after `resume`.
    const paused = new Set(list.map(nameOf))
    for (const [topic, partition, offset] of this.#drop(of => paused.has(nameOf(of)))) {
      call(() => this.#native.seek(topic, partition, String(offset)))
    }
  }

  async resume (partitions) {
    const list = listOf(partitions)
    await this.#connected()
    call(() => this.#native.pause(JSON.stringify(list), false))
  }

  /** Takes messages out that were polled and not handed over; gives partition and offset of the first of each partition. */
  #drop (whether) {
    const first = new Map()
    const stay = []
    for (let place = this.#at; place < this.#length; place++) {
      const message = new Message(this.#store, this.#numberOf(place))
      const partition = [message.topic, message.partition]
      if (!whether(partition)) stay.push(this.#numberOf(place))
      else if (!first.has(nameOf(partition))) first.set(nameOf(partition), [...partition, message.offset])
    }
    if (first.size > 0) {
      this.#picked = stay
      this.#at = 0
      this.#length = stay.length
    }
    return first.values()
  }

  /** The offset of the next record that is handed over. */
  async position (partition, { signal } = {}) {
    const [topic, number] = one(partition)
    await this.#connected(signal)
    for (let place = this.#at; place < this.#length; place++) {
      const message = new Message(this.#store, this.#numberOf(place))
      if (message.topic === topic && message.partition === number) return message.offset
    }
    return BigInt(await this.#post.ask(id => this.#native.position(id, topic, number), { signal }))
  }

  /** How many records are ahead of the position, as of the last fetch; null before it. */
  lag (partition) {
    const [topic, number] = one(partition)
    return call(() => this.#native.lag(topic, number)) ?? null
  }

  beginningOffsets (partitions, options) { return this.#offsets(partitions, false, options) }
  endOffsets (partitions, options) { return this.#offsets(partitions, true, options) }

  async #offsets (partitions, end, { signal } = {}) {
    const list = JSON.stringify(listOf(partitions))
    const answer = await this.#post.ask(id => this.#native.offsets(id, list, end), { signal })
    return answer.map(([topic, partition, offset]) => ({ topic, partition, offset: BigInt(offset) }))
  }

  /** For each `{ topic, partition, timestamp }` the first record that is not older; its offset is null if there is none. */
  async offsetsForTimes (times, { signal } = {}) {
    if (!Array.isArray(times)) throw new ArgumentError('offsetsForTimes takes a list of { topic, partition, timestamp }')
    const list = JSON.stringify(times.map(time => [...one(time), timeOf(time.timestamp)]))
    const answer = await this.#post.ask(id => this.#native.offsetsForTimes(id, list), { signal })
    return answer.map(([topic, partition, offset, timestamp, leaderEpoch]) =>
      ({ topic, partition, offset: offset === null ? null : BigInt(offset), timestamp, leaderEpoch }))
  }

  /** The partitions of a topic. */
  async partitionsFor (topic, { signal } = {}) {
    return objects(await this.#post.ask(id => this.#native.partitionsFor(id, String(topic)), { signal }))
  }

  /** Resolves when the consumer has connected and knows its partitions; rejects when it cannot. Reading need not wait for it. */
  connected ({ signal } = {}) {
    return this.#connected(signal)
  }

  async #connected (signal) {
    if (this.#closed) throw new ClosedError('this consumer is closed')
    if (this.#assigning) await this.#assigned(signal)
    await this.#post.ask(id => this.#native.connected(id), { signal })
  }

  /**
   * Ends it: loops end, whoever waits is woken. In a group it calls `onRevoked`, commits what is processed and leaves, within
   * `timeout` milliseconds, and tells what it did. The message that was handed over last is not processed: a last `commit()` says so.
   */
  async close ({ timeout = 10_000 } = {}) {
    const within = milliseconds('timeout', timeout)
    const leaves = this.#inGroup && !this.#closed
    try {
      if (leaves) await this.#listeners.letGo(this)
    } finally {
      // A loop may have gone on meanwhile.
      this.#settle()
      const out = this.#out()
      this.#closed = true
      this.#at = this.#length = this.#done = 0
      this.#store = null
      if (leaves) this.#last = this.#post.ask(id => this.#native.finish(id, within, out))
      else call(() => this.#native.close())
      for (const resolve of this.#waiting.splice(0)) resolve()
    }
    const last = this.#last
    this.#last = null
    return closedOf(await last)
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')] () {
    return this.close()
  }
}

const DONE = Object.freeze({ value: undefined, done: true })

function iterator (next) {
  let over = false
  return {
    next: () => over ? Promise.resolve(DONE) : next(),
    return: async value => {
      over = true
      return { value, done: true }
    },
    [Symbol.asyncIterator] () { return this }
  }
}

function atMost (maxRecords) {
  if (maxRecords === undefined) return 0
  if (!Number.isInteger(maxRecords) || maxRecords < 1 || maxRecords > 0x7fffffff) {
    throw new ArgumentError(`maxRecords must be a whole number, 1 or more, not ${String(maxRecords)}`)
  }
  return maxRecords
}

module.exports = { Consumer }
