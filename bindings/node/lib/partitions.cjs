'use strict'
// Partitions, offsets and times as programs write them, and as the native half takes them.

const { classes: { ArgumentError } } = require('./errors.cjs')

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

module.exports = { one, listOf, isPair, nameOf, objects, offsetText, timeOf }
