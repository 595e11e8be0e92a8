'use strict'
// How long a process lives, and what is said at its end. Each test is a process of its own.
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { topic, size, run, cluster } = require('./help.cjs')

const SERVER = '({ bootstrapServers: process.argv[1], lingerMs: 50 })'

test('a process ends by itself although its clients are open', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `
    const p = new P.Producer(${SERVER}); const c = new P.Consumer({ bootstrapServers: process.argv[1], topics: ['${name}'] }); const a = new P.Admin({ bootstrapServers: process.argv[1] })
    Promise.all([p.send('${name}', 'x'), a.listTopics(), c.endOffsets([['${name}', 0]])]).then(() => console.log('done'))`
  const { code: exit, stdout, stderr } = await run(code, { args: [bootstrapServers] })
  assert.deepEqual([exit, stdout, stderr], [0, 'done\n', ''])
})

test('a process does not end while a promise is open', async () => {
  const { bootstrapServers, name } = await topic()
  const { code, stdout } = await run(`new P.Producer(${SERVER}).send('${name}', 'x').then(() => console.log('delivered'))`, { args: [bootstrapServers] })
  assert.deepEqual([code, stdout], [0, 'delivered\n'])
})

test('a client that only a promise waits for is not collected', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `
    require('node:v8').setFlagsFromString('--expose-gc')
    setInterval(require('node:vm').runInNewContext('gc'), 1).unref()
    const options = { bootstrapServers: process.argv[1] }
    const waits = [
      async () => (await new P.Consumer({ ...options, topics: ['${name}'] }).poll({ timeout: 300 })).length >= 0,
      async () => (await new P.Consumer({ ...options, topics: ['${name}'] }).endOffsets([['${name}', 0]])).length,
      async () => (await new P.Admin(options).listTopics()).length > 0,
      async () => (await new P.Producer({ ...options, lingerMs: 300 }).send('${name}', 'x')).partition,
      async () => { const p = new P.Producer({ ...options, lingerMs: 300 }); p.enqueue('${name}', 'x'); return (await p.flush()).failed }
    ]
    for (const wait of waits) wait().then(value => console.log(String(value)))`
  const { code: exit, stdout, stderr } = await run(code, { args: [bootstrapServers] })
  assert.deepEqual([exit, stdout.split('\n').sort().join(' ')], [0, ' 0 0 1 true true'], stderr)
})

test('a process that waits for messages goes on, and ends when it stops reading', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `
    const c = new P.Consumer({ bootstrapServers: process.argv[1], topics: ['${name}'], autoOffsetReset: 'earliest' })
    const p = new P.Producer(${SERVER})
    setTimeout(() => p.enqueue('${name}', 'late'), 300).unref()
    ;(async () => { for await (const m of c) { console.log(m.text()); break } })()
    // The timer above keeps nothing alive: it is the reading that does.
  `
  const { code: exit, stdout } = await run(code, { args: [bootstrapServers] })
  assert.deepEqual([exit, stdout], [0, 'late\n'])
})

test('records that nobody waits for are delivered before a natural end', async () => {
  const { bootstrapServers, name } = await topic()
  const { code, stderr } = await run(`const p = new P.Producer(${SERVER}); for (let i = 0; i < 5000; i++) p.enqueue('${name}', 'x')`, { args: [bootstrapServers] })
  assert.deepEqual([code, stderr], [0, ''])
  assert.equal(await size(bootstrapServers, name), 5000)
})

test('records after two flushes at once are delivered before a natural end as well', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `const p = new P.Producer(${SERVER}); p.enqueue('${name}', 'a'); Promise.all([p.flush(), p.flush()]).then(() => p.enqueue('${name}', 'b'))`
  const { code: exit, stderr } = await run(code, { args: [bootstrapServers] })
  assert.deepEqual([exit, stderr], [0, ''])
  assert.equal(await size(bootstrapServers, name), 2)
})

test('records that nobody waited for and that failed are told at a natural end', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `const p = new P.Producer({ bootstrapServers: process.argv[1], maxRequestSize: 1000 }); p.enqueue('${name}', Buffer.alloc(5000))`
  const { code: exit, stderr } = await run(code, { args: [bootstrapServers] })
  assert.equal(exit, 0)
  assert.match(stderr, /nobody waited for failed/)
})

test('a natural end does not wait for ever for a broker that is not there', async () => {
  const { code, stderr } = await run("new P.Producer({ bootstrapServers: '127.0.0.1:1' }).enqueue('t', 'x')")
  assert.equal(code, 0)
  assert.match(stderr, /127\.0\.0\.1:1/)
})

test('process.exit says how many records were not acknowledged', async () => {
  const { bootstrapServers, name } = await topic()
  const c = await cluster()
  c.fault(`api=Produce topic=${name} delay_response=60s`)
  const sends = `const p = new P.Producer(${SERVER}); for (let i = 0; i < 3; i++) p.send('${name}', 'x').catch(() => {}); for (let i = 0; i < 2; i++) p.enqueue('${name}', 'x');`
  const { code, stderr } = await run(`${sends} setTimeout(() => process.exit(7), 200)`, { args: [bootstrapServers] })
  c.clearFaults()
  assert.equal(code, 7)
  assert.match(stderr, /^ottla: the process ends while 5 records are not acknowledged/)
})

test('process.exit with nothing open says nothing', async () => {
  const { bootstrapServers, name } = await topic()
  const { code, stderr } = await run(`const p = new P.Producer(${SERVER}); p.enqueue('${name}', 'y'); p.send('${name}', 'x').then(() => p.flush()).then(() => process.exit(3))`, { args: [bootstrapServers] })
  assert.deepEqual([code, stderr], [3, ''])
})

test('a failed send that nobody handles ends the process, as every rejection does', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `new P.Producer({ bootstrapServers: process.argv[1], maxRequestSize: 1000 }).send('${name}', Buffer.alloc(5000))`
  const { code: exit, stderr } = await run(code, { args: [bootstrapServers] })
  assert.equal(exit, 1)
  assert.match(stderr, /TooLargeError/)
})

test('an exception elsewhere ends the process at once, and the count is told', async () => {
  const { bootstrapServers, name } = await topic()
  const { code, stderr } = await run(`const p = new P.Producer(${SERVER}); p.send('${name}', 'x'); throw new Error('elsewhere')`, { args: [bootstrapServers] })
  assert.notEqual(code, 0)
  assert.match(stderr, /elsewhere/)
  assert.match(stderr, /1 record is not acknowledged/)
})

test('a process with a broker in it ends by itself', async () => {
  const { code, stdout } = await run("require('ottla/testing').Cluster.start().then(c => console.log(c.bootstrapServers.length > 0))")
  assert.deepEqual([code, stdout], [0, 'true\n'])
})

test('log lines reach a logger until it is taken away', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `
    const lines = []
    P.setLogger(line => lines.push(line), { level: 'trace' })
    const p = new P.Producer(${SERVER})
    p.send('${name}', 'x').then(() => p.close()).then(() => {
      P.setLogger(null)
      const line = lines[0]
      console.log(lines.length > 0, line.level, line.target.startsWith('ottla'), line.time instanceof Date, typeof line.message)
    })`
  const { stdout, stderr } = await run(code, { args: [bootstrapServers] })
  assert.match(stdout, /^true (trace|debug|info|warn) true true string/, stderr)
})
