'use strict'
// What a consumer does in a group: who is told, what goes in and what comes out.

const { classes: { ArgumentError }, fromFacts } = require('./errors.cjs')
const { Message, Batch } = require('./message.cjs')
const { one, objects, offsetText } = require('./partitions.cjs')

/** The program's functions, and the partitions that they know to be the consumer's. */
class Listeners {
  #functions
  #told = new Map()

  constructor (functions) {
    for (const [name, function_] of Object.entries(functions)) {
      if (function_ !== undefined && typeof function_ !== 'function') throw new ArgumentError(`${name} must be a function`)
    }
    this.#functions = functions
  }

  /** Calls who is to be told; what comes back may have to be awaited. */
  tell (consumer, event) {
    const { onAssigned, onRevoked, onLost, onEvent } = this.#functions
    const key = of => `${of.partition} ${of.topic}`
    switch (event.kind) {
      case 'assigned':
        for (const of of event.partitions) this.#told.set(key(of), of)
        return onAssigned?.(event.partitions, consumer)
      case 'revoked':
        for (const of of event.partitions) this.#told.delete(key(of))
        return onRevoked?.(event.partitions, consumer)
      case 'lost':
        for (const of of event.partitions) this.#told.delete(key(of))
        return (onLost ?? onRevoked)?.(event.partitions, consumer)
      default:
        return onEvent?.(event, consumer)
    }
  }

  /** Tells that all partitions are given up, because the program itself wants it. */
  letGo (consumer) {
    const partitions = [...this.#told.values()]
    this.#told.clear()
    if (partitions.length > 0) return this.#functions.onRevoked?.(partitions, consumer)
  }
}

/** Objects of the native half, in the spelling of JavaScript. */
function camel (object) {
  const spelt = name => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [spelt(name), value]))
}

const big = number => number === null || number === undefined ? null : BigInt(number)

function progressOf (row) {
  const progress = camel(row)
  return { ...progress, position: big(progress.position), committed: big(progress.committed) }
}

function healthOf (health) {
  return { ...camel(health), group: health.group && camel(health.group), partitions: health.partitions.map(progressOf) }
}

function eventOf ({ name, partitions, error, detail }) {
  return {
    kind: name === 'commit_failed' ? 'commitFailed' : name,
    partitions: objects(partitions),
    error: error ? fromFacts(error) : null,
    reason: name === 'rebalancing' ? detail : null,
    progress: name === 'stalled' ? progressOf(JSON.parse(detail)) : null
  }
}

function committedOf ([topic, partition, offset, leaderEpoch, metadata]) {
  return { topic, partition, offset: big(offset), leaderEpoch: leaderEpoch ?? null, metadata: metadata ?? null }
}

function closedOf (told) {
  const list = rows => rows.map(([topic, partition, offset]) => ({ topic, partition, offset: BigInt(offset) }))
  if (!told) return { committed: [], unprocessed: [], finished: true, error: null }
  return {
    committed: list(told.committed),
    unprocessed: list(told.unprocessed),
    finished: told.finished,
    error: told.error ? fromFacts(told.error) : null
  }
}

/** `[{ topic, partition, offset, metadata, leaderEpoch }]` as the native half takes it. */
function offsetRows (offsets) {
  if (!Array.isArray(offsets)) throw new ArgumentError('offsets must be a list of { topic, partition, offset }')
  const row = of => [...one(of), offsetText(of.offset), of.leaderEpoch ?? null, of.metadata ?? '']
  return JSON.stringify(offsets.map(row))
}

/** How far the partitions of a message or a batch are once it is processed; undefined for anything else. */
function handedRows (what) {
  if (what instanceof Message) return JSON.stringify([handed(what)])
  if (!(what instanceof Batch)) return undefined
  const last = new Map()
  for (const message of what) last.set(`${message.partition} ${message.topic}`, message)
  return JSON.stringify(Array.from(last.values(), handed))
}

function handed (message) {
  return [message.topic, message.partition, String(message.offset + 1n), message.leaderEpoch, message._store.assignment(message._i)]
}

module.exports = { Listeners, camel, committedOf, handedRows, offsetRows, closedOf, eventOf, progressOf, healthOf }
