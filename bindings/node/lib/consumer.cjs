'use strict'
// The consumer. The native half fetches ahead; a poll takes what is there, without waiting, and waits here when nothing is.

const { native } = require('./native.cjs')
const { classes: { ArgumentError, ClosedError }, call } = require('./errors.cjs')
const { hold, release } = require('./life.cjs')
const { Post, abortable } = require('./post.cjs')
const { pairsOf, milliseconds } = require('./options.cjs')
const { Store, Message, Batch } = require('./message.cjs')

/** Milliseconds after which other things of the program get a turn, however many records there are. */
const TURN = 2
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
  // Those who wait for records.
  #waiting = []
  #turn = performance.now()

  constructor (options) {
    const { assign, topics, ...config } = options ?? {}
    const partitions = assign === undefined ? [] : listOf(assign)
    if (topics !== undefined && !(Array.isArray(topics) && topics.every(topic => typeof topic === 'string'))) {
      throw new ArgumentError('topics must be a list of names')
    }
    if (topics !== undefined && assign !== undefined) throw new ArgumentError('either topics or assign: both say what is read')
    const self = new WeakRef(this)
    this.#native = call(() => new native.Consumer(pairsOf(config), JSON.stringify(partitions), () => self.deref()?.#woken()))
    if (topics !== undefined) this.#assignTopics(topics)
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
    return new Message(this.#store, this.#picked === null ? place : this.#picked[place])
  }

  #takeBatch (most) {
    const end = most === 0 ? this.#length : Math.min(this.#length, this.#at + most)
    const whole = this.#picked === null && this.#at === 0 && end === this.#length
    const picked = whole ? null : Array.from({ length: end - this.#at }, (_, at) => this.#numberOf(this.#at + at))
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
      if (polled !== undefined) {
        this.#store = new Store(polled, this.#topicOf)
        this.#picked = null
        this.#at = 0
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
    let timer
    hold(this)
    const arrived = new Promise(resolve => {
      this.#waiting.push(resolve)
      if (until !== Infinity) timer = setTimeout(resolve, until - performance.now())
      call(() => this.#native.arm())
    })
    return abortable(arrived, signal).finally(() => {
      clearTimeout(timer)
      release(this)
    })
  }

  #woken () {
    this.#post.deliver(this.#native.takeMail())
    for (const resolve of this.#waiting.splice(0)) resolve()
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
    for (const [topic, partition] of list ?? this.assignment().map(one)) {
      call(() => this.#native.seekTo(topic, partition, place))
      this.#drop(([of, at]) => of === topic && at === partition)
    }
  }

  /** Hands over nothing more of these partitions until `resume`. Nothing is lost. */
  async pause (partitions) {
    const list = listOf(partitions)
    await this.#connected()
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

  /** Ends it: loops end, whoever waits is woken. */
  async close () {
    this.#closed = true
    this.#at = this.#length = 0
    this.#store = null
    call(() => this.#native.close())
    for (const resolve of this.#waiting.splice(0)) resolve()
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

/** `{ topic, partition }` or `[topic, partition]`. */
function one (partition) {
  const [topic, number] = Array.isArray(partition) ? partition : [partition?.topic, partition?.partition]
  if (typeof topic !== 'string' || !Number.isInteger(number) || number < 0 || number > 0x7fffffff) {
    throw new ArgumentError('a partition must be { topic, partition }, a name and a whole number, 0 or more')
  }
  return [topic, number]
}

function listOf (partitions) {
  if (!Array.isArray(partitions)) throw new ArgumentError('partitions must be a list of { topic, partition }')
  return partitions.map(one)
}

function isPair (list) {
  return list.length === 2 && typeof list[0] === 'string' && typeof list[1] === 'number'
}

function nameOf ([topic, partition]) {
  return `${partition} ${topic}`
}

function objects (list) {
  return list.map(([topic, partition]) => ({ topic, partition }))
}

function offsetText (offset) {
  if (typeof offset === 'bigint' || Number.isSafeInteger(offset)) return String(offset)
  throw new ArgumentError(`an offset must be a bigint or a whole number, not ${String(offset)}`)
}

function timeOf (timestamp) {
  const ms = timestamp instanceof Date ? timestamp.getTime() : timestamp
  if (!Number.isSafeInteger(ms)) throw new ArgumentError(`a timestamp must be a Date or whole milliseconds since 1970, not ${String(timestamp)}`)
  return ms
}

module.exports = { Consumer }
