'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { ottla, cluster, topic, producer, read, run, size, until } = require('./help.cjs')

test('a send resolves with topic, partition, offset and timestamp', async () => {
  const { producer: p, topic, bootstrapServers } = await producer()
  const first = await p.send(topic, 'a', { key: 'k', timestamp: 1_600_000_000_123, headers: { h: 'v', none: null } })
  assert.deepEqual([first.topic, first.partition, first.offset, first.offsetNumber, first.timestamp], [topic, 0, 0n, 0, 1_600_000_000_123])
  const second = await p.send(topic, Buffer.from([0, 255]))
  assert.equal(second.offset, 1n)
  assert.equal(JSON.parse(JSON.stringify(second)).offset, '1')
  const [a, b] = await read(bootstrapServers, topic, 2)
  assert.deepEqual([a.text(), a.keyText(), a.timestamp, a.timestampType], ['a', 'k', 1_600_000_000_123, 'create'])
  assert.deepEqual(a.headers, [{ key: 'h', value: Buffer.from('v') }, { key: 'none', value: null }])
  assert.deepEqual([b.value, b.key, b.headers], [Buffer.from([0, 255]), null, []])
})

test('every form of bytes arrives as it was', async () => {
  const { producer: p, topic, bootstrapServers } = await producer()
  const bytes = Uint8Array.from([1, 2, 3, 4])
  const values = ['', 'žluťoučký 🐎', Buffer.alloc(0), bytes, bytes.buffer, new DataView(bytes.buffer, 1, 2), new Uint16Array(bytes.buffer), null, undefined, bytes.subarray(1, 3)]
  await Promise.all(values.map(value => p.send(topic, value)))
  const expected = ['', 'žluťoučký 🐎', '', bytes, bytes, Buffer.from([2, 3]), bytes, null, null, Buffer.from([2, 3])]
  const messages = await read(bootstrapServers, topic, values.length)
  assert.deepEqual(messages.map(message => message.value), expected.map(value => value === null ? null : Buffer.from(value)))
})

test('headers keep order and repetition from a list, and may be an object or a Map', async () => {
  const { producer: p, topic, bootstrapServers } = await producer()
  await p.send(topic, 'x', { headers: [['a', '1'], ['b', null], { key: 'a', value: Buffer.from([2]) }, ['', '']] })
  await p.send(topic, 'x', { headers: new Map([['m', 'v']]) })
  await p.send(topic, 'x', { headers: {} })
  const long = 'n'.repeat(300)
  await p.send(topic, 'x', { headers: { [long]: 'w'.repeat(70_000) } })
  const [list, map, none, large] = await read(bootstrapServers, topic, 4)
  assert.deepEqual(list.headers.map(({ key, value }) => [key, value]), [['a', Buffer.from('1')], ['b', null], ['a', Buffer.from([2])], ['', Buffer.alloc(0)]])
  assert.deepEqual([list.header('a'), list.header('b'), list.header('c')], [Buffer.from([2]), null, undefined])
  assert.deepEqual([map.header('m'), none.headers], [Buffer.from('v'), []])
  assert.equal(large.headers[0].key, long)
  assert.equal(large.headers[0].value.length, 70_000)
})

test('keys go where Java would put them, and a partition that is given is taken', async () => {
  const { producer: p, topic } = await producer({}, 6)
  for (const key of ['truck-7', 'a', 'ž', 'key-12345']) {
    const { partition } = await p.send(topic, 'v', { key })
    assert.equal(partition, ottla.partitionForKey(key, 6), key)
  }
  assert.equal((await p.send(topic, 'v', { key: 'a', partition: 5 })).partition, 5)
  assert.equal(ottla.partitionForKey('truck-7', 12), 3)
  assert.equal(ottla.partitionForKey(null, 12), null)
})

test('records of one partition keep the order of their sends, whatever slab they were in', async () => {
  const { producer: p, topic, bootstrapServers } = await producer({ batchSize: 1000 })
  const sent = []
  for (let i = 0; i < 20_000; i++) sent.push(p.send(topic, String(i)))
  const metadata = await Promise.all(sent)
  assert.ok(metadata.every(({ offset }, i) => offset === BigInt(i)))
  const messages = await read(bootstrapServers, topic, sent.length)
  assert.ok(messages.every((message, i) => message.text() === String(i)))
})

test('a record larger than a slab goes as well, and one that is too large is refused alone', async () => {
  const { producer: p, topic, bootstrapServers } = await producer({ maxRequestSize: 8_000_000, bufferMemory: 64_000_000 })
  const admin = new ottla.Admin({ bootstrapServers })
  const name = `${topic}-large`
  await admin.createTopics([{ name, partitions: 1, configs: { 'max.message.bytes': 8_000_000 } }])
  const large = Buffer.alloc(3_000_000, 'l')
  const all = await Promise.allSettled([p.send(name, 'before'), p.send(name, large), p.send(name, Buffer.alloc(9_000_000)), p.send(name, 'ž'.repeat(1_000_000)), p.send(name, 'after')])
  assert.deepEqual(all.map(({ status }) => status), ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  assert.ok(all[2].reason instanceof ottla.TooLargeError)
  const messages = await read(bootstrapServers, name, 4)
  assert.deepEqual(messages.map(message => message.value.length), [6, 3_000_000, 2_000_000, 5])
})

test('sendMany resolves with metadata in order', async () => {
  const { producer: p, topic } = await producer({}, 3)
  const metadata = await p.sendMany(topic, ['a', { value: 'b', partition: 2 }, null, { key: 'k' }, Buffer.from('c')])
  assert.equal(metadata.length, 5)
  assert.equal(metadata[1].partition, 2)
  assert.deepEqual(await p.sendMany(topic, []), [])
})

test('sendMany with a mistake in it sends nothing', async () => {
  const { producer: p, topic, bootstrapServers } = await producer()
  await assert.rejects(p.sendMany(topic, ['a', 5]), ottla.ArgumentError)
  await assert.rejects(p.sendMany(topic, ['a', { value: {} }]), /JSON\.stringify/)
  await assert.rejects(p.sendMany(topic, 'a'), ottla.ArgumentError)
  await p.flush()
  assert.equal(await size(bootstrapServers, topic), 0)
})

test('sendMany that fails in part tells of each record', async () => {
  const { producer: p, topic } = await producer({ maxRequestSize: 100_000 })
  const error = await p.sendMany(topic, ['good', Buffer.alloc(200_000), 'too']).then(assert.fail, error => error)
  assert.ok(error instanceof ottla.TooLargeError, error)
  assert.deepEqual(error.results.map(result => result.constructor.name), ['RecordMetadata', 'TooLargeError', 'RecordMetadata'])
})

test('arguments that do not fit are refused with what to do', async () => {
  const { producer: p, topic } = await producer({ maxBlockMs: 100 })
  await assert.rejects(p.send(topic, { a: 1 }), error => error instanceof ottla.ArgumentError && /JSON\.stringify/.test(error.message))
  await assert.rejects(p.send(topic, 'v', { key: 7 }), ottla.ArgumentError)
  await assert.rejects(p.send(undefined, 'v'), ottla.ArgumentError)
  await assert.rejects(p.send('', 'v'), ottla.KafkaError)
  await assert.rejects(p.send(topic, 'v', { partition: -3 }), ottla.ArgumentError)
  await assert.rejects(p.send(topic, 'v', { partition: 1.5 }), ottla.ArgumentError)
  await assert.rejects(p.send(topic, 'v', { partition: 99 }), ottla.KafkaError)
  await assert.rejects(p.send(topic, 'v', { timestamp: 'now' }), ottla.ArgumentError)
  await assert.rejects(p.send(topic, 'v', { timestamp: -5 }), ottla.KafkaError)
  await assert.rejects(p.send(topic, 'v', { headers: { a: 3 } }), ottla.ArgumentError)
  assert.throws(() => p.enqueue(topic, Symbol('x')), ottla.ArgumentError)
  // And none of these hurt the next one.
  assert.equal((await p.send(topic, 'v', { timestamp: new Date(5) })).timestamp, 5)
})

test('the slab is packed before send returns: the caller may use its buffer again at once', async () => {
  const { producer: p, topic, bootstrapServers } = await producer()
  const buffer = Buffer.from('first')
  const sent = p.send(topic, buffer)
  buffer.fill('x')
  await sent
  assert.equal((await read(bootstrapServers, topic, 1))[0].text(), 'first')
})

test('enqueue says when the buffer is full, and ready when there is room', async () => {
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, bufferMemory: 200_000, batchSize: 10_000, lingerMs: 0 })
  await p.connected()
  const value = Buffer.alloc(1000)
  let full = 0
  for (let i = 0; i < 5000; i++) {
    if (p.enqueue(name, value)) continue
    full++
    await p.ready()
  }
  assert.ok(full > 0, 'it was never full')
  await p.flush()
  assert.equal(await size(bootstrapServers, name), 5000)
  const counts = await p.close()
  assert.deepEqual(counts, { delivered: 5000, failed: 0, unknown: 0 })
})

test('sends beyond the buffer wait for room and are all delivered in order', async () => {
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, bufferMemory: 100_000, batchSize: 10_000 })
  const sent = Array.from({ length: 3000 }, (_, i) => p.send(name, Buffer.alloc(1000, String(i % 10))))
  const offsets = (await Promise.all(sent)).map(({ offsetNumber }) => offsetNumber)
  assert.ok(offsets.every((offset, i) => offset === i))
  await p.close()
})

test('who ignores that the buffer is full is refused at last, and nothing that was accepted is lost', async () => {
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, bufferMemory: 1_000_000 })
  const value = Buffer.alloc(100_000)
  let accepted = 0
  assert.throws(() => { for (;;) { p.enqueue(name, value); accepted++ } }, ottla.QueueFullError)
  await p.flush()
  assert.equal(await size(bootstrapServers, name), accepted)
  await p.close()
})

test('a full buffer in front of a broker that is silent ends after max.block.ms', async () => {
  const c = await cluster()
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, bufferMemory: 100_000, batchSize: 10_000, maxBlockMs: 200, deliveryTimeoutMs: 3000, requestTimeoutMs: 1000 })
  // What is known of the topic may be too late for so short a wait.
  while (!await p.send(name, 'first').catch(() => undefined));
  c.fault(`api=Produce topic=${name} delay_response=60s`)
  const all = await Promise.allSettled(Array.from({ length: 500 }, () => p.send(name, Buffer.alloc(1000))))
  c.clearFaults()
  assert.ok(all.every(({ status, reason }) => status === 'rejected' && reason instanceof ottla.TimeoutError), all.find(one => one.status !== 'rejected' || !(one.reason instanceof ottla.TimeoutError))?.reason)
  await p.close({ timeout: 100 })
})

test('an aborted signal rejects at once, and the record may still be delivered', async () => {
  const { producer: p, topic, bootstrapServers } = await producer({ lingerMs: 200 })
  await assert.rejects(p.send(topic, 'never', { signal: AbortSignal.abort(new Error('before')) }), /before/)
  const stop = new AbortController()
  const sent = p.send(topic, 'still', { signal: stop.signal })
  stop.abort(new Error('enough'))
  await assert.rejects(sent, /enough/)
  const kept = await p.send(topic, 'kept', { signal: new AbortController().signal })
  assert.equal(kept.offset, 1n)
  assert.deepEqual((await read(bootstrapServers, topic, 2)).map(message => message.text()), ['still', 'kept'])
  assert.equal(p.unacknowledged(), 0)
  await assert.rejects(p.flush({ signal: AbortSignal.abort(new Error('no')) }), /no/)
})

test('an abort after a failure does not leave a rejection unhandled', async () => {
  const { producer: p, topic } = await producer({ maxBlockMs: 100 })
  const stop = new AbortController()
  const failing = p.send(topic, 'x', { partition: 99, signal: stop.signal })
  stop.abort(new Error('enough'))
  await assert.rejects(failing, /enough/)
  await p.flush()
})

test('failures of records that nobody waits for reach flush, once', async () => {
  const { producer: p, topic } = await producer({ maxRequestSize: 10_000 })
  p.enqueue(topic, Buffer.alloc(50_000))
  p.enqueue(topic, Buffer.alloc(60_000))
  p.enqueue(topic, 'good')
  const error = await p.flush().then(assert.fail, error => error)
  assert.ok(error instanceof ottla.TooLargeError, error)
  assert.deepEqual([error.count, error.topic], [2, topic])
  await p.flush()
})

test('failures of records that nobody waits for reach onError, and then nobody else', async () => {
  const errors = []
  const { producer: p, topic } = await producer({ maxRequestSize: 10_000, onError: error => errors.push(error) })
  const c = await cluster()
  p.enqueue(topic, Buffer.alloc(50_000))
  await until(() => errors.length === 1)
  c.fault(`api=Produce topic=${topic} error_before=29 times=1`)
  p.enqueue(topic, 'refused by the broker')
  await p.flush()
  await until(() => errors.length === 2)
  assert.ok(errors[0] instanceof ottla.TooLargeError)
  assert.ok(errors[1] instanceof ottla.AuthorizationError)
  assert.deepEqual([errors[1].code, errors[1].codeName, errors[1].topic, errors[1].count], [29, 'TOPIC_AUTHORIZATION_FAILED', topic, 1])
})

test('an onError that throws keeps nothing else from going on', async () => {
  const { bootstrapServers, name } = await topic()
  const code = `
    process.on('uncaughtException', error => console.log(error.message))
    const p = new P.Producer({ bootstrapServers: process.argv[1], maxRequestSize: 1000, onError: () => { throw new Error('mine') } })
    p.enqueue('${name}', Buffer.alloc(5000))
    p.enqueue('${name}', 'good')
    p.close().then(({ delivered }) => console.log(delivered))`
  const { stdout } = await run(code, { args: [bootstrapServers] })
  assert.equal(stdout, 'mine\n1\n')
})

test('flush with a timeout returns in time and says what is pending', async () => {
  const c = await cluster()
  const { producer: p, topic } = await producer()
  await p.send(topic, 'first')
  c.fault(`api=Produce topic=${topic} delay_response=1s times=1`)
  const slow = p.send(topic, 'slow')
  assert.deepEqual(await p.flush({ timeout: 20 }), { delivered: 0, failed: 0, unknown: 0, pending: 1 })
  await slow
  assert.equal((await p.flush()).pending, 0)
  await assert.rejects(p.flush({ timeout: 'soon' }), ottla.ArgumentError)
})

test('close settles every promise, refuses what comes later, and may be called again', async () => {
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, lingerMs: 10_000 })
  const sent = Array.from({ length: 100 }, () => p.send(name, 'x'))
  const counts = await p.close()
  assert.deepEqual(counts, { delivered: 100, failed: 0, unknown: 0 })
  assert.equal((await Promise.all(sent)).length, 100)
  await assert.rejects(p.send(name, 'late'), ottla.ClosedError)
  await assert.rejects(p.sendMany(name, ['late']), ottla.ClosedError)
  assert.throws(() => p.enqueue(name, 'late'), ottla.ClosedError)
  assert.deepEqual(await p.close(), counts)
  await p[Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]()
})

test('close at its timeout fails what is left, and says what may have been written', async () => {
  const c = await cluster()
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers })
  await p.send(name, 'first')
  c.fault(`api=Produce topic=${name} delay_response=5s times=1`)
  const slow = p.send(name, 'slow').then(assert.fail, error => error)
  await until(() => p.metrics().requestsInFlight === 1)
  await p.close({ timeout: 50 })
  const error = await slow
  assert.ok(error instanceof ottla.KafkaError)
  assert.equal(error.persisted, 'possibly')
})

test('a retry writes a record once', async () => {
  const c = await cluster()
  const { producer: p, topic, bootstrapServers } = await producer()
  await p.send(topic, 'first')
  c.fault(`api=Produce topic=${topic} error_after=6 times=2`)
  const { offset } = await p.send(topic, 'second')
  assert.equal(offset, 1n)
  assert.equal(await size(bootstrapServers, topic), 2)
})

test('metrics are null before it has connected, and count afterwards', async () => {
  const { bootstrapServers, name } = await topic()
  const p = new ottla.Producer({ bootstrapServers, clientId: 'meter' })
  assert.ok(p.metrics() === null || p.metrics().recordsDelivered === 0)
  await p.send(name, 'x')
  const metrics = p.metrics()
  assert.deepEqual([metrics.clientId, metrics.recordsDelivered, metrics.topics[0].topic], ['meter', 1, name])
  assert.match(p.prometheus(), /records/)
  await p.close()
})

test('two topics in one slab each get theirs', async () => {
  const { bootstrapServers, name } = await topic()
  const other = (await topic()).name
  const p = new ottla.Producer({ bootstrapServers })
  const sent = await Promise.all(Array.from({ length: 100 }, (_, i) => p.send(i % 2 ? name : other, String(i))))
  assert.ok(sent.every((metadata, i) => metadata.topic === (i % 2 ? name : other) && metadata.offsetNumber === i >> 1))
  await p.close()
})

test('a topic that does not exist holds up no other', async () => {
  const { producer: p, topic } = await producer({ maxBlockMs: 60_000 })
  const lost = p.send('no-such-topic', 'x')
  lost.catch(() => {})
  assert.equal((await p.send(topic, 'y')).offset, 0n)
  await p.close({ timeout: 10 }).catch(() => {})
  await assert.rejects(lost, ottla.KafkaError)
})
