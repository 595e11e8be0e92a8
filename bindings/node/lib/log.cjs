'use strict'
// The log of the library. There is one for the process.

const { native } = require('./native.cjs')
const { classes: { ArgumentError } } = require('./errors.cjs')

const LEVELS = ['off', 'error', 'warn', 'info', 'debug', 'trace']

/**
 * Has `logger` called with each line `{ level, target, message, time }` of this level (default `info`) and graver; null ends it.
 * One logger for the process: the thread that called last gets the lines.
 */
function setLogger (logger, { level = 'info' } = {}) {
  if (logger === null) return native.stopLog()
  if (typeof logger !== 'function') throw new ArgumentError('a logger must be a function, or null')
  const number = LEVELS.indexOf(level)
  if (number < 0) throw new ArgumentError(`level must be one of ${LEVELS.join(', ')}, not ${String(level)}`)
  let dropped = 0
  native.startLog(number, () => {
    const log = JSON.parse(native.takeLog())
    for (const { level, target, message, time } of log.lines) logger({ level: LEVELS[level], target, message, time: new Date(time) })
    if (log.dropped > dropped) {
      logger({ level: 'warn', target: 'ottla', message: `${log.dropped - dropped} lines were dropped: they came faster than they were taken`, time: new Date() })
      dropped = log.dropped
    }
  })
}

module.exports = { setLogger }
