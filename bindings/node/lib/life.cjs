'use strict'
// How long a process lives: as long as something is waited for, no longer.
//
// The native half never keeps a process alive. What is waited for holds one timer here. When a process is about to end by
// itself, producers whose records nobody waits for get the time to deliver them; when it is ended by force, it is said on
// stderr how many records were not acknowledged.

const { writeSync } = require('node:fs')

const LONG = 2 ** 31 - 1
let timer
/** Clients that somebody waits for, and for how many things. */
const held = new Map()

/**
 * Keeps the process alive, and the client from being collected, until `release` is called as often. Who waits for a client is
 * reachable only through the client, which the native half knows only weakly: without this both could be collected together.
 */
function hold (client) {
  const count = held.get(client) ?? 0
  held.set(client, count + 1)
  if (held.size > 1 || count > 0) return
  timer ??= setInterval(() => {}, LONG)
  timer.ref()
}

function release (client) {
  const count = held.get(client)
  if (count > 1) return held.set(client, count - 1)
  held.delete(client)
  if (held.size === 0) timer.unref()
}

/** Producers that have records which may not be delivered yet. */
const unsettled = new Set()
let watching = false

/** `producer` has records on their way. It is asked to deliver them before a natural end, and counted at any other. */
function watch (producer) {
  unsettled.add(producer)
  if (watching) return
  watching = true
  process.on('beforeExit', () => {
    // Each of these waits for something, which keeps the process alive; then this is asked again.
    for (const one of unsettled) one.finish()
  })
  process.on('exit', () => {
    let left = 0
    for (const one of unsettled) left += one.unacknowledged()
    if (left > 0) {
      const text = `ottla: the process ends while ${left} ${left === 1 ? 'record is' : 'records are'} not acknowledged; ` +
        'await flush() or close() of the producer before process.exit()\n'
      try {
        writeSync(2, text)
      } catch {}
    }
  })
}

function unwatch (producer) {
  unsettled.delete(producer)
}

module.exports = { hold, release, watch, unwatch }
