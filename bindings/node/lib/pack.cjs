'use strict'
// Bytes of a record into a slab.

const { classes: { ArgumentError } } = require('./errors.cjs')

const TAGGED = 1
const TIMED = 2
const HEADED = 4

/** How many bytes a key or value can take at most. */
function most (part, what) {
  if (part === undefined || part === null) return 0
  // A unit of UTF-16 is at most three bytes of UTF-8.
  if (typeof part === 'string') return part.length * 3
  if (ArrayBuffer.isView(part) || part instanceof ArrayBuffer) return part.byteLength
  if (typeof SharedArrayBuffer !== 'undefined' && part instanceof SharedArrayBuffer) return part.byteLength
  const hint = typeof part === 'object' ? ': JSON.stringify() it, or serialise it in another way' : ''
  throw new ArgumentError(`a ${what} must be a string, a Buffer or other bytes, or null, not ${typeof part}${hint}`)
}

/** Copies a part to `at`; gives its length, -1 for null. */
function pack (slab, part, at) {
  if (part === undefined || part === null) return -1
  if (typeof part === 'string') return slab.write(part, at)
  if (part instanceof Uint8Array) {
    slab.set(part, at)
    return part.length
  }
  const bytes = bytesOf(part)
  slab.set(bytes, at)
  return bytes.length
}

function bytesOf (part) {
  if (typeof part === 'string') return Buffer.from(part)
  if (ArrayBuffer.isView(part)) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
  return new Uint8Array(part)
}

/** Timestamp and headers, as `src/slab.rs` reads them. */
function additions ({ headers, timestamp }) {
  const parts = []
  let flags = 0
  if (timestamp !== undefined && timestamp !== null) {
    flags |= TIMED
    parts.push(time(timestamp))
  }
  if (headers !== undefined && headers !== null) {
    const list = listed(headers)
    if (list.length > 0) {
      flags |= HEADED
      parts.push(number(list.length))
      for (const [name, value] of list) {
        if (typeof name !== 'string') throw new ArgumentError(`the name of a header must be a string, not ${typeof name}`)
        most(value, 'header')
        const key = Buffer.from(name)
        parts.push(number(key.length), key)
        if (value === null || value === undefined) parts.push(number(-1))
        else {
          const bytes = bytesOf(value)
          parts.push(number(bytes.length), bytes)
        }
      }
    }
  }
  return { flags, bytes: Buffer.concat(parts) }
}

function time (timestamp) {
  const ms = timestamp instanceof Date ? timestamp.getTime() : timestamp
  if (!(Number.isSafeInteger(ms) || typeof ms === 'bigint')) {
    throw new ArgumentError(`a timestamp must be a Date or whole milliseconds since 1970, not ${String(timestamp)}`)
  }
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeBigInt64LE(BigInt.asIntN(64, BigInt(ms)))
  return bytes
}

/** Headers as a list of pairs: from an object, a Map, or a list of pairs or of `{ key, value }`. */
function listed (headers) {
  if (headers instanceof Map) return [...headers]
  if (!Array.isArray(headers)) {
    if (typeof headers !== 'object') throw new ArgumentError(`headers must be an object, a Map or a list, not ${typeof headers}`)
    return Object.entries(headers)
  }
  return headers.map(header => {
    if (Array.isArray(header)) return header
    if (header === null || typeof header !== 'object') throw new ArgumentError('a header must be [key, value] or { key, value }')
    return [header.key, header.value]
  })
}

function number (of) {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32LE(of)
  return bytes
}

module.exports = { most, pack, additions, bytesOf, TAGGED }
