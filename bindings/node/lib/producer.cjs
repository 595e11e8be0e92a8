'use strict'
// The producer: records are packed into a slab here and handed over together, once the running code has ended or the slab is
// full. A promise costs one place in a ring; reports come in runs and are resolved by one loop.

const { native } = require('./native.cjs')
const { classes, fromFacts, lifted, call } = require('./errors.cjs')
const { ArgumentError, ClosedError, QueueFullError, TimeoutError } = classes
const { hold, release, watch, unwatch } = require('./life.cjs')
const { Post, abortable } = require('./post.cjs')
const { pairsOf, milliseconds } = require('./options.cjs')
const { pack, additions, most, TAGGED } = require('./pack.cjs')

/** Bytes and records of a slab. */
const SLAB = 1 << 20
const RECORDS = 4096
/** Numbers of a record, as `src/slab.rs` reads them. */
const WORDS = 5
/** Numbers of a report, as `src/producer.rs` writes them. */
const REPORT = 7
/** Records that are settled before others get a turn: the event loop must not stand still. */
const TURN = 2048
/** Bytes that may wait here for room in `buffer.memory` before `enqueue` refuses more. */
const BACKLOG = 64 << 20
const CLOSE_TIMEOUT = 30_000
const inspect = Symbol.for('nodejs.util.inspect.custom')

/** Where a record was written. */
class RecordMetadata {
  constructor (run, index) {
    this._run = run
    this._index = index
  }

  get topic () { return this._run.topic }
  get partition () { return this._run.partition }
  /** null when the broker does not tell (acks=0). */
  get offset () { return this._run.offset < 0 ? null : BigInt(this._run.offset) + BigInt(this._index) }
  get offsetNumber () { return this._run.offset < 0 ? null : this._run.offset + this._index }
  get timestamp () { return this._run.timestamp }
  toJSON () { return { topic: this.topic, partition: this.partition, offset: this.offset === null ? null : String(this.offset), timestamp: this.timestamp } }
  [inspect] () { return { topic: this.topic, partition: this.partition, offset: this.offset, timestamp: this.timestamp } }
}

/** A place in the ring for a promise that is rejected as soon as a signal is aborted. */
class Abortable {
  constructor (resolve, reject, signal) {
    this.abort = () => reject(signal.reason)
    signal.addEventListener('abort', this.abort, { once: true })
    Object.assign(this, { resolve, reject, signal })
  }

  settle (tag, metadata, error) {
    this.signal.removeEventListener('abort', this.abort)
    if (error) this.reject(error)
    else this.resolve(metadata)
  }
}

/** The places in the ring of records that were sent together. */
class Many {
  constructor (first, count, resolve, reject) {
    this.results = new Array(count)
    Object.assign(this, { first, left: count, error: null, resolve, reject })
  }

  settle (tag, metadata, error) {
    this.results[tag - this.first] = error ?? metadata
    if (error) this.error ??= error
    if (--this.left > 0) return
    if (!this.error) return this.resolve(this.results)
    const failure = fromFacts({ ...this.error, message: this.error.message })
    failure.results = this.results
    this.reject(failure)
  }
}

class Producer {
  #native
  #post = new Post(this)
  #onError
  #maxBlock
  #closing = null
  #fatal = null
  // The slab.
  #slab = null
  #words = null
  #at = 0
  #count = 0
  #firstTag = 0
  #packed = 0
  #scheduled = false
  #push = () => { this.#scheduled = false; this.#handOver() }
  // Topics.
  #topics = new Map()
  #topicNames = []
  #topicName = undefined
  #topic = -1
  // Promises.
  #ring = new Array(1024)
  #low = 0
  #high = 0
  #pending = 0
  #executor = resolve => { this.#ring[this.#high & (this.#ring.length - 1)] = resolve }
  // Slabs that wait for room.
  #backlog = []
  #backlogBytes = 0
  #waiting = []
  // Reports that wait for their turn.
  #reports = []
  #turn = null
  // Records that nobody waits for: how many were taken, and how many of the first of them are settled for certain.
  #enqueued = 0
  #flushed = 0
  #finishing = false
  #unclaimed = null

  constructor (options) {
    const { onError, ...config } = options ?? {}
    if (onError !== undefined && typeof onError !== 'function') throw new ArgumentError('onError must be a function')
    const pairs = pairsOf(config)
    this.#onError = onError
    const block = pairs.find(([key]) => key === 'max.block.ms')
    this.#maxBlock = block ? Number(block[1]) : 60_000
    // The native half must not keep what is forgotten here: it is asked whether this is still there.
    const self = new WeakRef(this)
    this.#native = call(() => new native.Producer(pairs, () => self.deref()?.#woken()))
  }

  /**
   * Sends a record. Resolves with its metadata when it is acknowledged, rejects when it has failed.
   * Accepted records are delivered whether or not anybody waits.
   */
  send (topic, value, options) {
    const signal = options?.signal
    if (signal?.aborted) return Promise.reject(signal.reason)
    try {
      this.#pack(topic, value, options, TAGGED)
    } catch (error) {
      return Promise.reject(error)
    }
    const promise = signal
      ? new Promise((resolve, reject) => this.#executor(new Abortable(resolve, reject, signal)))
      : new Promise(this.#executor)
    this.#tagged(1)
    return promise
  }

  /**
   * Sends a record that nobody waits for. False: the buffer is full, wait for `ready()` before sending more; the record is
   * accepted all the same. Failures reach `onError`, or else the next `flush()` or `close()`.
   */
  enqueue (topic, value, options) {
    if (this.#backlogBytes > BACKLOG) {
      throw new QueueFullError(`${this.#backlogBytes} bytes wait for room: after enqueue() returned false, await ready()`, { retriable: true })
    }
    this.#pack(topic, value, options, 0)
    if (this.#enqueued++ === this.#flushed) watch(this)
    return this.#backlog.length === 0
  }

  /**
   * Sends records together; resolves with their metadata in order. If some fail it rejects, when all are settled, with the
   * first error, whose `results` has metadata or error of each.
   */
  sendMany (topic, records, { signal } = {}) {
    if (signal?.aborted) return Promise.reject(signal.reason)
    if (!Array.isArray(records)) return Promise.reject(new ArgumentError('sendMany takes a list of records'))
    const first = this.#high
    let packed = 0
    try {
      // All or none: a mistake in one of them is found before the first is sent.
      for (const record of records) checkRecord(record)
      if (records.length === 0) return Promise.resolve([])
      let many
      const promise = new Promise((resolve, reject) => { many = new Many(first, records.length, resolve, reject) })
      for (const record of records) {
        const plain = isValue(record)
        this.#pack(topic, plain ? record : record.value, plain ? undefined : record, TAGGED)
        this.#executor(many)
        this.#tagged(1)
        packed++
      }
      return abortable(promise, signal)
    } catch (error) {
      // Those that went before it are settled into a list that nobody reads.
      for (let tag = first; tag < first + packed; tag++) this.#ring[tag & (this.#ring.length - 1)] = () => {}
      return Promise.reject(error)
    }
  }

  /** Resolves when there is room for more records. */
  ready ({ signal } = {}) {
    this.#handOver()
    if (this.#backlog.length === 0) return signal?.aborted ? Promise.reject(signal.reason) : Promise.resolve()
    return abortable(new Promise((resolve) => this.#waiting.push(resolve)), signal)
  }

  /**
   * Sends everything without lingering and waits until each record of it is delivered or has failed, at most for `timeout`
   * milliseconds. Resolves with counts; `pending` is what the time was too short for. Rejects with what befell records that
   * nobody waited for.
   */
  async flush ({ timeout, signal } = {}) {
    const most = milliseconds('timeout', timeout, -1)
    const began = performance.now()
    this.#handOver()
    if (this.#backlog.length > 0) {
      const passed = abortable(new Promise(resolve => this.#waiting.push(resolve)), signal)
      if (!await within(passed, most)) return { delivered: 0, failed: 0, unknown: 0, pending: this.unacknowledged() }
    }
    const enqueued = this.#enqueued
    const left = most < 0 ? -1 : Math.max(0, most - (performance.now() - began))
    const counts = await this.#post.ask(id => this.#native.flush(id, left), { signal })
    if (counts.pending === 0) this.#settledUpTo(enqueued)
    this.#raise()
    return counts
  }

  /** Resolves when the producer has connected; rejects when it cannot. Sending need not wait for it. */
  connected ({ signal } = {}) {
    return this.#post.ask(id => this.#native.connected(id), { signal })
  }

  /**
   * Takes no more records, delivers what is queued, and ends, at the latest after `timeout` milliseconds (default 30,000).
   * Every promise is settled then. Resolves with counts of all records since the start.
   */
  close ({ timeout } = {}) {
    if (this.#closing) return this.#closing
    let most
    try {
      most = milliseconds('timeout', timeout, CLOSE_TIMEOUT)
    } catch (error) {
      return Promise.reject(error)
    }
    this.#handOver()
    this.#closing = this.#end(most)
    return this.#closing
  }

  async #end (most) {
    const began = performance.now()
    if (this.#backlog.length > 0) await within(new Promise(resolve => this.#waiting.push(resolve)), most)
    const late = new ClosedError('the producer was closed before there was room for the record')
    for (const entry of this.#backlog.splice(0)) this.#refuse(entry, late)
    this.#cleared()
    const left = Math.max(0, most - (performance.now() - began))
    const counts = await this.#post.ask(id => this.#native.close(id, left))
    while (this.#turn) await this.#turn
    this.#settledUpTo(this.#enqueued)
    this.#raise()
    return counts
  }

  /** Totals and distributions since the start; null before it has connected. */
  metrics () {
    const text = call(() => this.#native.metrics())
    return text == null ? null : JSON.parse(text)
  }

  /** The metrics in Prometheus' text format; empty before it has connected. */
  prometheus () {
    return call(() => this.#native.prometheus())
  }

  /** How many records were accepted and are not settled yet. */
  unacknowledged () {
    const open = this.#enqueued - this.#flushed
    if (open === 0) return this.#pending
    // The client counts all that it has settled, with a receipt or without.
    return this.#pending + Math.max(0, Math.min(open, this.#packed - this.#native.settled() - this.#pending))
  }

  /** Delivers what nobody waits for, before a natural end of the process. */
  finish () {
    if (this.#finishing || this.#closing) return
    this.#finishing = true
    this.flush().then(
      () => { this.#finishing = false },
      error => {
        this.#finishing = false
        // Asked once: what could not be delivered now is not tried for ever.
        this.#settledUpTo(this.#enqueued)
        process.emitWarning(`records that nobody waited for failed: ${error.message}`, { type: 'OttlaWarning', detail: error.stack })
      })
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')] () {
    return this.close().then(() => {})
  }

  // ---- packing

  #pack (topic, value, options, flags) {
    if (this.#closing) throw new ClosedError('this producer is closed')
    if (topic !== this.#topicName) this.#look(topic)
    let key
    let partition = -1
    let more = null
    if (options !== undefined && options !== null) {
      key = options.key
      if (options.partition !== undefined && options.partition !== null) partition = checkPartition(options.partition)
      if (options.headers != null || options.timestamp != null) {
        more = additions(options)
        flags |= more.flags
      }
    }
    const need = most(key, 'key') + most(value, 'value') + (more === null ? 0 : more.bytes.length)
    if (this.#slab === null || this.#at + need > this.#slab.length || this.#count === RECORDS) this.#roomFor(need)
    const slab = this.#slab
    const words = this.#words
    const at = this.#count * WORDS
    let place = this.#at
    words[at] = (this.#topic << 3) | flags
    words[at + 1] = partition
    const keyLength = words[at + 2] = pack(slab, key, place)
    if (keyLength > 0) place += keyLength
    const valueLength = words[at + 3] = pack(slab, value, place)
    if (valueLength > 0) place += valueLength
    if (more !== null) {
      slab.set(more.bytes, place)
      place += words[at + 4] = more.bytes.length
    } else words[at + 4] = 0
    this.#at = place
    this.#count++
    this.#packed++
    if (!this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(this.#push)
    }
  }

  #look (topic) {
    if (typeof topic !== 'string') throw new ArgumentError(`a topic must be a string, not ${typeof topic}`)
    let number = this.#topics.get(topic)
    if (number === undefined) {
      number = this.#native.topic(topic)
      this.#topics.set(topic, number)
      this.#topicNames[number] = topic
    }
    this.#topic = number
    this.#topicName = topic
  }

  #roomFor (need) {
    this.#handOver()
    if (this.#slab === null || this.#slab.length < need || this.#slab.length > SLAB) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB, need))
    }
    this.#words ??= new Int32Array(RECORDS * WORDS)
  }

  /** One more place in the ring is taken. */
  #tagged (count) {
    this.#high += count
    if (this.#pending === 0) {
      hold(this)
      watch(this)
    }
    this.#pending += count
    const ring = this.#ring
    if (this.#high - this.#low >= ring.length) this.#widen()
  }

  #widen () {
    const ring = this.#ring
    const mask = ring.length - 1
    while (this.#low < this.#high && ring[this.#low & mask] === undefined) this.#low++
    if (this.#high - this.#low < ring.length / 2) return
    const wider = new Array(ring.length * 2).fill(undefined)
    for (let tag = this.#low; tag < this.#high; tag++) wider[tag & (wider.length - 1)] = ring[tag & mask]
    this.#ring = wider
  }

  // ---- handing over

  #handOver () {
    if (this.#count === 0) return
    const count = this.#count
    const words = this.#words
    const slab = this.#slab
    let tags = 0
    for (let at = 0, end = count * WORDS; at < end; at += WORDS) tags += words[at] & TAGGED
    const entry = { slab, words, count, from: 0, tag: this.#firstTag, bytes: this.#at, since: 0 }
    this.#firstTag += tags
    this.#at = this.#count = 0
    if (this.#backlog.length === 0 && this.#give(entry)) {
      if (slab.length > SLAB) this.#slab = null
      return
    }
    // It has to wait, and keeps its slab.
    this.#slab = this.#words = null
    entry.words = words.slice(0, count * WORDS)
    if (slab.length - entry.bytes > SLAB / 2) entry.slab = Buffer.from(slab.subarray(0, entry.bytes))
    entry.since = performance.now()
    this.#backlogBytes += entry.bytes
    if (this.#backlog.push(entry) === 1) this.#awaitRoom()
  }

  /** Hands records over; true when all were taken. */
  #give (entry) {
    let answer
    try {
      const words = entry.count * WORDS === entry.words.length ? entry.words : entry.words.subarray(0, entry.count * WORDS)
      answer = this.#native.send(entry.slab, words, entry.from, entry.tag)
    } catch (thrown) {
      this.#refuse(entry, lifted(thrown))
      return true
    }
    entry.from += answer >> 2
    if (answer & 2) this.#settleReports()
    return entry.from === entry.count
  }

  #awaitRoom () {
    this.#post.ask(id => this.#native.room(id)).catch(() => {}).then(() => this.#drainBacklog())
  }

  #drainBacklog () {
    const now = performance.now()
    while (this.#backlog.length > 0) {
      const entry = this.#backlog[0]
      if (!this.#give(entry)) {
        if (now - entry.since < this.#maxBlock) return this.#awaitRoom()
        const text = `there was no room in buffer.memory for ${Math.round(now - entry.since)} ms (max.block.ms is ${this.#maxBlock})`
        this.#refuse(entry, new TimeoutError(text, { retriable: true }))
      }
      this.#backlog.shift()
      this.#backlogBytes -= entry.bytes
    }
    this.#cleared()
  }

  #cleared () {
    this.#backlogBytes = 0
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** The records of an entry that were not handed over fail. */
  #refuse (entry, error) {
    let tag = entry.tag
    for (let index = 0; index < entry.count; index++) {
      const word = entry.words[index * WORDS]
      const tagged = word & TAGGED
      if (index >= entry.from) {
        if (tagged) this.#settle(tag, 1, null, error)
        else this.#fail({ count: 1, topic: this.#topicNames[word >> 3], partition: entry.words[index * WORDS + 1], error })
      }
      tag += tagged
    }
  }

  // ---- reports

  #woken () {
    // Mail first: what a report belongs to was reported before the mail that says so was posted.
    const mail = this.#native.takeMail()
    this.#settleReports()
    const unclaimed = this.#native.takeUnclaimed()
    if (unclaimed) {
      const { error, ...facts } = JSON.parse(unclaimed)
      this.#fail({ ...facts, error: fromFacts(error) })
    }
    if (mail.length === 0) return
    if (this.#turn) this.#turn.then(() => this.#post.deliver(mail))
    else this.#post.deliver(mail)
  }

  #settleReports () {
    const numbers = this.#native.takeReports()
    if (!numbers) return
    const errors = this.#native.takeErrors().map(text => fromFacts(JSON.parse(text)))
    this.#reports.push({ numbers, errors, at: 0, done: 0 })
    if (this.#turn) return
    if (!this.#settleSome()) {
      this.#turn = new Promise(resolve => {
        const next = () => {
          if (!this.#settleSome()) return setImmediate(next)
          this.#turn = null
          resolve()
        }
        setImmediate(next)
      })
    }
  }

  /** Settles as many records as fit into a turn; true when all are. */
  #settleSome () {
    let left = TURN
    while (this.#reports.length > 0) {
      const reports = this.#reports[0]
      const { numbers, errors } = reports
      for (; reports.at < numbers.length; reports.at += REPORT, reports.done = 0) {
        const at = reports.at
        const first = numbers[at]
        const error = numbers[at + 6] < 0 ? null : errors[numbers[at + 6]]
        const topic = this.#topicNames[numbers[at + 2]] ?? error?.topic
        if (first < 0) {
          this.#fail({ count: numbers[at + 1], topic, partition: numbers[at + 3], error })
          continue
        }
        const count = Math.min(left, numbers[at + 1] - reports.done)
        // `done` records of this run had their turn before.
        const run = { topic, partition: numbers[at + 3], offset: numbers[at + 4] < 0 ? -1 : numbers[at + 4] + reports.done, timestamp: numbers[at + 5] }
        this.#settle(first + reports.done, count, run, error)
        reports.done += count
        left -= count
        if (reports.done < numbers[at + 1]) return false
      }
      this.#reports.shift()
    }
    return true
  }

  /** Settles records with tags that follow each other. */
  #settle (first, count, run, error) {
    const ring = this.#ring
    const mask = ring.length - 1
    for (let index = 0; index < count; index++) {
      const slot = (first + index) & mask
      const waiting = ring[slot]
      ring[slot] = undefined
      if (typeof waiting === 'function') waiting(error === null ? new RecordMetadata(run, index) : Promise.reject(error))
      else waiting?.settle(first + index, error === null ? new RecordMetadata(run, index) : null, error)
    }
    this.#pending -= count
    if (this.#pending === 0) {
      this.#low = this.#high
      release(this)
      if (this.#enqueued === this.#flushed) unwatch(this)
    }
  }

  /** The first so many of the records that nobody waits for are settled. */
  #settledUpTo (enqueued) {
    this.#flushed = Math.max(this.#flushed, enqueued)
    if (this.#enqueued === this.#flushed && this.#pending === 0) unwatch(this)
  }

  /** Records that nobody waits for have failed. */
  #fail ({ count, topic, partition, error }) {
    error.count = count
    error.topic ??= topic ?? null
    error.partition ??= partition ?? null
    // What it throws is its own affair, and keeps nothing here from going on.
    if (this.#onError) queueMicrotask(() => this.#onError(error))
    else if (this.#unclaimed) this.#unclaimed.count += count
    else this.#unclaimed = error
  }

  #raise () {
    const unclaimed = this.#unclaimed
    this.#unclaimed = null
    if (unclaimed) throw unclaimed
  }
}

/** Whether `promise` is done within so many milliseconds; negative: however long it takes. */
async function within (promise, most) {
  if (most < 0) return promise.then(() => true)
  let timer
  const over = new Promise(resolve => { timer = setTimeout(resolve, most, false) })
  try {
    return await Promise.race([promise.then(() => true), over])
  } finally {
    clearTimeout(timer)
  }
}

function isValue (record) {
  return record === null || typeof record === 'string' || ArrayBuffer.isView(record) || record instanceof ArrayBuffer
}

function checkRecord (record) {
  if (record === undefined) throw new ArgumentError('a record is undefined')
  if (isValue(record)) return
  if (typeof record !== 'object') throw new ArgumentError(`a record must be a value or { value, key, headers, partition, timestamp }, not ${typeof record}`)
  most(record.key, 'key')
  most(record.value, 'value')
  if (record.partition != null) checkPartition(record.partition)
  if (record.headers != null || record.timestamp != null) additions(record)
}

function checkPartition (partition) {
  if (!Number.isInteger(partition) || partition < 0 || partition > 0x7fffffff) {
    throw new ArgumentError(`a partition must be a whole number, 0 or more, not ${String(partition)}`)
  }
  return partition
}

module.exports = { Producer, RecordMetadata }
