'use strict'
// Messages, read lazily from one buffer for each poll. `src/consumer.rs` says how it is laid out.

const HEAD = 16
const NUMBERS = 16
const INDEX = 8
const RUN = 8
const inspect = Symbol.for('nodejs.util.inspect.custom')

/** What a poll handed over. */
class Store {
  constructor (buffer, topicOf) {
    const head = new Int32Array(buffer.buffer, buffer.byteOffset, 4)
    this.length = head[0]
    this.buffer = buffer
    this.numbers = new Float64Array(buffer.buffer, buffer.byteOffset + HEAD, 2 * this.length)
    const ints = buffer.byteOffset + HEAD + NUMBERS * this.length
    this.index = new Int32Array(buffer.buffer, ints, INDEX * this.length + RUN * head[1])
    // Topic, base offset of each run, as values of JavaScript.
    this.topics = new Array(head[1])
    this.bases = new Array(head[1])
    this.bigBases = new Array(head[1])
    for (let run = 0, at = INDEX * this.length; run < head[1]; run++, at += RUN) {
      this.topics[run] = topicOf(this.index[at])
      const high = this.index[at + 3]
      const low = this.index[at + 2] >>> 0
      this.bases[run] = high * 4294967296 + low
      this.bigBases[run] = (BigInt(high) << 32n) | BigInt(low)
    }
  }

  /** A number of the run of message `i`. */
  run (i, word) {
    return this.index[INDEX * this.length + RUN * this.index[INDEX * i] + word]
  }

  /** The number of the assignment under which message `i` was handed over. */
  assignment (i) {
    return this.run(i, 7) * 4294967296 + (this.run(i, 6) >>> 0)
  }

  part (i, word) {
    const length = this.index[INDEX * i + word + 1]
    if (length < 0) return null
    const at = this.index[INDEX * i + word]
    return this.buffer.subarray(at, at + length)
  }

  text (i, word, encoding) {
    const length = this.index[INDEX * i + word + 1]
    if (length < 0) return null
    const at = this.index[INDEX * i + word]
    return this.buffer.toString(encoding, at, at + length)
  }
}

/** A record that was read. Its bytes are views of the memory of the whole batch. */
class Message {
  constructor (store, i) {
    this._store = store
    this._i = i
  }

  get topic () { return this._store.topics[this._store.index[INDEX * this._i]] }
  get partition () { return this._store.run(this._i, 1) }
  get offset () { return this._store.bigBases[this._store.index[INDEX * this._i]] + BigInt(this._store.numbers[2 * this._i]) }
  get offsetNumber () { return this._store.bases[this._store.index[INDEX * this._i]] + this._store.numbers[2 * this._i] }
  /** Milliseconds since 1970, -1 for none. */
  get timestamp () { return this._store.numbers[2 * this._i + 1] }
  /** `create` or `append`: whose clock the timestamp is. */
  get timestampType () { return this._store.run(this._i, 4) === 1 ? 'append' : 'create' }
  get leaderEpoch () { return this._store.run(this._i, 5) }
  get key () { return this._store.part(this._i, 1) }
  get value () { return this._store.part(this._i, 3) }
  /** The value as text; null for a null value. */
  text (encoding = 'utf8') { return this._store.text(this._i, 3, encoding) }
  keyText (encoding = 'utf8') { return this._store.text(this._i, 1, encoding) }
  get headers () { return headersOf(this._store, this._i) }

  /** The value of the last header of this name; null also for a null value, undefined for no such header. */
  header (name) {
    return this.headers.findLast(header => header.key === name)?.value
  }

  [inspect] () {
    const { topic, partition, offset, timestamp, key, value, headers } = this
    return { topic, partition, offset, timestamp, key, value, headers }
  }
}

function headersOf (store, i) {
  const at = INDEX * i
  const count = store.index[at + 7]
  const headers = []
  if (count === 0) return headers
  const { buffer } = store
  let place = store.index[at + 5]
  // Zigzag varints of 32 bits; the native half has checked that they are whole.
  const varint = () => {
    let bits = 0
    for (let shift = 0; ; shift += 7) {
      const byte = buffer[place++]
      bits |= (byte & 0x7f) << shift
      if (byte < 0x80 || shift > 28) return (bits >>> 1) ^ -(bits & 1)
    }
  }
  for (let header = 0; header < count; header++) {
    const keyLength = varint()
    const key = buffer.toString('utf8', place, place += keyLength)
    const length = varint()
    headers.push({ key, value: length < 0 ? null : buffer.subarray(place, place += length) })
  }
  return headers
}

/** Messages that came together, in the order of their offsets within each partition. */
class Batch {
  constructor (store, picked) {
    this._store = store
    /** Numbers of the messages in the store; null: all. */
    this._picked = picked
  }

  get length () { return this._picked === null ? (this._store?.length ?? 0) : this._picked.length }

  at (index) {
    const place = index < 0 ? this.length + index : index
    if (!(place >= 0 && place < this.length)) return undefined
    return new Message(this._store, this._picked === null ? place : this._picked[place])
  }

  /** The partitions of its messages, each once. */
  get partitions () {
    const all = new Map()
    for (const message of this) all.set(`${message.partition} ${message.topic}`, { topic: message.topic, partition: message.partition })
    return [...all.values()]
  }

  [Symbol.iterator] () {
    return new Messages(this)
  }

  [inspect] () { return { length: this.length, partitions: this.partitions } }
}

class Messages {
  constructor (batch) {
    this.batch = batch
    this.store = batch._store
    this.length = batch.length
    this.index = 0
  }

  next () {
    if (this.index >= this.length) return { value: undefined, done: true }
    const picked = this.batch._picked
    const i = this.index++
    return { value: new Message(this.store, picked === null ? i : picked[i]), done: false }
  }

  [Symbol.iterator] () { return this }
}

module.exports = { Store, Message, Batch }
