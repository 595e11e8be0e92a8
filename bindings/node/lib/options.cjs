'use strict'
// Options: Kafka's own keys, or the same in camel case.

const { classes: { ArgumentError, ConfigError } } = require('./errors.cjs')

/** `lingerMs` is `linger.ms`; a name with a dot is taken as it is. */
function keyOf (name) {
  return name.includes('.') ? name : name.replace(/[A-Z]/g, letter => '.' + letter.toLowerCase())
}

/** Options as the native half takes them: pairs of key and text. What a value may be is checked there. */
function pairsOf (options) {
  if (options === null || typeof options !== 'object') {
    throw new ArgumentError("options must be an object, as { bootstrapServers: 'localhost:9092' }")
  }
  const pairs = []
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue
    pairs.push([keyOf(name), textOf(name, value)])
  }
  return pairs
}

function textOf (name, value) {
  switch (typeof value) {
    case 'string': return value
    case 'number': case 'bigint': case 'boolean': return String(value)
    default:
      if (Array.isArray(value) && value.every(part => typeof part === 'string')) return value.join(',')
      throw new ConfigError(`${name}: a value must be a string, a number, a boolean or a list of strings, not ${value === null ? 'null' : typeof value}`)
  }
}

/** A number of milliseconds, or `otherwise`. */
function milliseconds (name, value, otherwise) {
  if (value === undefined) return otherwise
  if (typeof value !== 'number' || !(value >= 0)) throw new ArgumentError(`${name} must be a number of milliseconds, 0 or more, not ${String(value)}`)
  return value
}

module.exports = { pairsOf, keyOf, milliseconds }
