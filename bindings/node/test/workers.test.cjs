'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { Worker } = require('node:worker_threads')
const { once } = require('node:events')
const { topic, size, run, root, cluster } = require('./help.cjs')

/** A worker; `P` in its code is the package. */
function worker (code, workerData) {
  return new Worker(`const P = require('ottla'); const { workerData, parentPort } = require('node:worker_threads'); ${code}`, { eval: true, workerData, cwd: root })
}

const WRITE = `
  const p = new P.Producer({ bootstrapServers: workerData.bootstrapServers })
  Promise.all(Array.from({ length: 1000 }, (_, i) => p.send(workerData.name, String(i)))).then(() => p.close()).then(counts => parentPort.postMessage(counts))`

test('workers have clients of their own, beside those of the main thread', async () => {
  const { bootstrapServers, name } = await topic(4)
  const workers = Array.from({ length: 4 }, () => worker(WRITE, { bootstrapServers, name }))
  const counts = await Promise.all(workers.map(async one => (await once(one, 'message'))[0]))
  assert.ok(counts.every(({ delivered }) => delivered === 1000))
  await Promise.all(workers.map(one => one.terminate()))
  assert.equal(await size(bootstrapServers, name), 4000)
})

test('a worker delivers what nobody waits for before it ends by itself', async () => {
  const { bootstrapServers, name } = await topic()
  const one = worker("const p = new P.Producer({ bootstrapServers: workerData.bootstrapServers }); for (let i = 0; i < 1000; i++) p.enqueue(workerData.name, 'x')", { bootstrapServers, name })
  const [code] = await once(one, 'exit')
  assert.equal(code, 0)
  assert.equal(await size(bootstrapServers, name), 1000)
})

test('a worker that is terminated with work pending takes nobody with it', async () => {
  const { bootstrapServers, name } = await topic()
  const c = await cluster()
  c.fault(`api=Produce topic=${name} delay_response=100ms`)
  const code = `
    const { Worker } = require('node:worker_threads')
    const busy = \`
      const P = require('ottla'); const { parentPort } = require('node:worker_threads')
      const options = { bootstrapServers: '${bootstrapServers}' }
      P.setLogger(() => {}, { level: 'trace' })
      const p = new P.Producer(options); const c = new P.Consumer({ ...options, topics: ['${name}'] }); const a = new P.Admin(options)
      let told = false
      const more = () => {
        for (let i = 0; i < 100; i++) p.send('${name}', 'x').catch(() => {})
        a.listTopics().catch(() => {})
        if (!told) { told = true; parentPort.postMessage('busy') }
        setTimeout(more, 1)
      }
      c.poll().catch(() => {})
      more()\`
    ;(async () => {
      for (let round = 0; round < 20; round++) {
        const worker = new Worker(busy, { eval: true })
        await new Promise(resolve => worker.once('message', resolve))
        await new Promise(resolve => setTimeout(resolve, round * 10))
        await worker.terminate()
      }
      const p = new P.Producer({ bootstrapServers: '${bootstrapServers}' })
      console.log((await p.send('${name}', 'after')).topic)
    })()`
  const { code: exit, signal, stdout, stderr } = await run(code)
  c.clearFaults()
  assert.deepEqual([exit, signal, stdout], [0, null, `${name}\n`], stderr)
})
