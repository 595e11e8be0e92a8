'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { topic, run } = require('./help.cjs')

test('memory is flat over a million records, sent and read', async () => {
  const { bootstrapServers, name } = await topic(2)
  const code = `
    const bootstrapServers = process.argv[1], topic = process.argv[2]
    const held = () => { global.gc(); global.gc(); const { rss, heapUsed, external } = process.memoryUsage(); return { rss, heapUsed, external } }
    setFlag()
    async function main () {
      const p = new P.Producer({ bootstrapServers, bufferMemory: 8_000_000, batchSize: 100_000 })
      const c = new P.Consumer({ bootstrapServers, topics: [topic], autoOffsetReset: 'earliest', fetchBufferMemory: 8_000_000, fetchMaxBytes: 2_000_000 })
      const value = Buffer.alloc(100)
      const batches = c.batches()
      let sent = 0, read = 0
      const round = async () => {
        for (const end = sent + 100_000; sent < end;) {
          const some = []
          for (let i = 0; i < 1000; i++, sent++) some.push(p.send(topic, value, { key: String(i) }))
          await Promise.all(some)
        }
        while (read < sent) {
          const { value: batch } = await batches.next()
          for (const message of batch) if (message.value.length !== 100) throw new Error('length')
          read += batch.length
        }
      }
      await round(); await round(); await round()
      const before = held()
      for (let i = 0; i < 7; i++) await round()
      const after = held()
      await p.close(); await c.close()
      console.log(JSON.stringify({ read, before, after }))
    }
    function setFlag () { require('node:v8').setFlagsFromString('--expose-gc'); global.gc = require('node:vm').runInNewContext('gc') }
    main()`
  const { stdout, stderr } = await run(code, { args: [bootstrapServers, name], milliseconds: 240_000 })
  assert.equal(stderr, '')
  const { read, before, after } = JSON.parse(stdout)
  assert.equal(read, 1_000_000)
  const grown = what => (after[what] - before[what]) / 1e6
  // 700,000 records of 100 bytes went through meanwhile: a leak of a tenth of them would show.
  assert.ok(grown('heapUsed') < 5 && grown('external') < 10 && grown('rss') < 40, JSON.stringify({ before, after }))
})
