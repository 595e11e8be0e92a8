'use strict'
// The two JavaScript clients answer the requests that tests/src/peer/program.rs describes, one JSON object a line.
const readline = require('node:readline')

const PATIENCE = 30_000

const unhex = text => (text === null ? null : Buffer.from(text, 'hex'))
const toHex = data => (data === null || data === undefined ? null : Buffer.from(data).toString('hex'))

function within (work) {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${PATIENCE} ms`)), PATIENCE)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

// Serves `handlers`, a function for each value of `do`, until standard input ends.
async function serve (handlers) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer
    try {
      const request = JSON.parse(line)
      if (!handlers[request.do]) throw new Error(`unknown request ${request.do}`)
      answer = await within(handlers[request.do](request))
    } catch (error) { // the test reads it
      const causes = (error.errors ?? [error.cause]).filter(Boolean).map(cause => cause.message)
      answer = { error: [`${error.name}: ${error.message}`, ...causes].join('; ') }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit()
}

module.exports = { serve, toHex, unhex }
