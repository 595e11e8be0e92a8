'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { Readable } = require('node:stream')
const { ottla, cluster, topic, producer, read, until } = require('./help.cjs')

/** A topic with `count` records in each partition, the values their numbers, timestamps 1000, 2000, ... */
async function filled (count, partitions = 1) {
  const { producer: p, topic: name, bootstrapServers } = await producer({}, partitions)
  const sent = []
  for (let i = 0; i < count; i++) {
    for (let partition = 0; partition < partitions; partition++) sent.push(p.send(name, String(i), { key: `k${i}`, partition, timestamp: 1000 * (i + 1) }))
  }
  await Promise.all(sent)
  const consumer = new ottla.Consumer({ bootstrapServers, topics: [name], autoOffsetReset: 'earliest' })
  return { consumer, producer: p, name, bootstrapServers, at: partition => ({ topic: name, partition }) }
}

async function take (consumer, count) {
  const messages = []
  for await (const message of consumer) if (messages.push(message) === count) break
  return messages
}

const texts = messages => Array.from(messages, message => message.text())

test('a loop over a consumer gives every record in order, and another loop goes on where it was left', async () => {
  const { consumer, name } = await filled(10)
  assert.deepEqual(texts(await take(consumer, 4)), ['0', '1', '2', '3'])
  const rest = await take(consumer, 6)
  assert.deepEqual(texts(rest), ['4', '5', '6', '7', '8', '9'])
  const last = rest.at(-1)
  assert.deepEqual([last.topic, last.partition, last.offset, last.offsetNumber, last.timestamp, last.keyText(), last.leaderEpoch], [name, 0, 9n, 9, 10_000, 'k9', 0])
  await consumer.close()
})

test('batches have at most maxRecords messages, and may be read in any way', async () => {
  const { consumer } = await filled(10)
  const sizes = []
  let seen = 0
  for await (const batch of consumer.batches({ maxRecords: 4 })) {
    sizes.push(batch.length)
    assert.equal(batch.at(0).text(), String(seen))
    assert.equal(batch.at(-1).text(), String(seen + batch.length - 1))
    assert.equal(batch.at(batch.length), undefined)
    assert.equal(batch.partitions.length, 1)
    seen += [...batch].length
    if (seen === 10) break
  }
  assert.ok(sizes.every(size => size <= 4), sizes)
  assert.throws(() => consumer.batches({ maxRecords: 0 }), ottla.ArgumentError)
  await consumer.close()
})

test('poll waits for records, or for its time, and gives null when the consumer is closed', async () => {
  const { consumer, producer: p, name } = await filled(1)
  assert.deepEqual(texts(await consumer.poll()), ['0'])
  const nothing = await consumer.poll({ timeout: 20 })
  assert.equal(nothing.length, 0)
  assert.deepEqual([...nothing], [])
  const next = consumer.poll()
  await p.send(name, 'later')
  assert.deepEqual(texts(await next), ['later'])
  const waiting = consumer.poll()
  await consumer.close()
  assert.equal(await waiting, null)
  assert.equal(await consumer.poll(), null)
})

test('several readers share the messages, each once, and all end when it is closed', async () => {
  const { consumer } = await filled(1000)
  const seen = []
  const reader = async () => { for await (const message of consumer) if (seen.push(message.offsetNumber) === 1000) await consumer.close() }
  await Promise.all([reader(), reader(), reader()])
  assert.deepEqual(seen.sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i))
})

test('closing ends loops that wait', async () => {
  const { consumer } = await filled(1)
  let seen = 0
  const loop = (async () => { for await (const _ of consumer) seen++ })()
  await until(() => seen === 1)
  await consumer.close()
  await loop
  await assert.rejects(consumer.seek({ topic: 'x', partition: 0 }, 0), ottla.ClosedError)
  assert.throws(() => consumer.assignment(), ottla.ClosedError)
  await consumer.close()
})

test('a signal ends a poll, and nothing is lost', async () => {
  const { consumer, producer: p, name } = await filled(0)
  await assert.rejects(consumer.poll({ signal: AbortSignal.abort(new Error('before')) }), /before/)
  const stop = new AbortController()
  const waiting = consumer.poll({ signal: stop.signal })
  await consumer.connected()
  stop.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  await p.send(name, 'x')
  assert.deepEqual(texts(await take(consumer, 1)), ['x'])
  await consumer.close()
})

test('seek goes to an offset, the beginning, the end and a time, also while messages are buffered', async () => {
  const { consumer, at } = await filled(10)
  assert.deepEqual(texts(await take(consumer, 2)), ['0', '1'])
  await consumer.seek(at(0), 7n)
  assert.deepEqual(texts(await take(consumer, 2)), ['7', '8'])
  await consumer.seekToBeginning(at(0))
  assert.deepEqual(texts(await take(consumer, 1)), ['0'])
  await consumer.seekToTimestamp(at(0), new Date(4500))
  assert.deepEqual(texts(await take(consumer, 1)), ['4'])
  await consumer.seekToBeginning()
  assert.equal(await consumer.position(at(0)), 0n)
  await consumer.seekToEnd([at(0)])
  assert.equal(await consumer.position(at(0)), 10n)
  await consumer.seek([at(0).topic, 0], 9)
  assert.deepEqual(texts(await take(consumer, 1)), ['9'])
  await assert.rejects(consumer.seek(at(0), -1), ottla.ArgumentError)
  await assert.rejects(consumer.seek(at(0), 'x'), ottla.ArgumentError)
  await assert.rejects(consumer.seek(at(5), 0), ottla.KafkaError)
  await consumer.close()
})

test('a position is that of the next message that is handed over, not of what is buffered', async () => {
  const { consumer, at } = await filled(10)
  await take(consumer, 3)
  assert.equal(await consumer.position(at(0)), 3n)
  assert.equal(consumer.lag(at(0)), 0)
  await take(consumer, 7)
  assert.equal(await consumer.position(at(0)), 10n)
  await consumer.close()
})

test('a paused partition hands over nothing and loses nothing', async () => {
  const { consumer, at, producer: p, name } = await filled(5, 2)
  await consumer.connected()
  await consumer.pause([at(0)])
  assert.deepEqual(consumer.paused(), [at(0)])
  const others = await take(consumer, 5)
  assert.ok(others.every(message => message.partition === 1))
  await consumer.resume([at(0)])
  // And when messages of it are buffered already:
  const first = await take(consumer, 2)
  assert.deepEqual(texts(first), ['0', '1'])
  await consumer.pause([at(0)])
  await p.send(name, 'other', { partition: 1 })
  assert.deepEqual(texts(await take(consumer, 1)), ['other'])
  await consumer.resume([at(0)])
  assert.deepEqual(texts(await take(consumer, 3)), ['2', '3', '4'])
  await consumer.close()
})

test('assign replaces what is read', async () => {
  const { consumer, at } = await filled(5, 3)
  await consumer.connected()
  assert.deepEqual(consumer.assignment(), [at(0), at(1), at(2)])
  await consumer.assign([at(2)])
  assert.deepEqual(consumer.assignment(), [at(2)])
  const messages = await take(consumer, 5)
  assert.ok(messages.every(message => message.partition === 2))
  await consumer.close()
})

test('offsets are told of partitions and times', async () => {
  const { consumer, at } = await filled(5, 2)
  assert.deepEqual(await consumer.beginningOffsets([at(0), at(1)]), [{ ...at(0), offset: 0n }, { ...at(1), offset: 0n }])
  assert.deepEqual(await consumer.endOffsets([at(1)]), [{ ...at(1), offset: 5n }])
  const times = await consumer.offsetsForTimes([{ ...at(0), timestamp: 2500 }, { ...at(1), timestamp: new Date(99_000) }])
  assert.deepEqual(times.map(({ partition, offset, timestamp }) => [partition, offset, timestamp]), [[0, 2n, 3000], [1, null, null]])
  assert.deepEqual(await consumer.partitionsFor(at(0).topic), [at(0), at(1)])
  await consumer.close()
})

test('a stream can be made of a consumer', async () => {
  const { consumer } = await filled(20)
  const seen = []
  const stream = Readable.from(consumer)
  for await (const message of stream) {
    if (seen.push(message.text()) === 20) break
  }
  assert.deepEqual(seen, Array.from({ length: 20 }, (_, i) => String(i)))
  await consumer.close()
})

test('a topic that is not there is an error of whoever reads', async () => {
  const { bootstrapServers } = await topic()
  const consumer = new ottla.Consumer({ bootstrapServers, topics: ['no-such-topic'], defaultApiTimeoutMs: 500 })
  await assert.rejects(consumer.poll(), ottla.KafkaError)
  await consumer.close()
})

test('a position outside the log is an error when there is no policy, and reading goes on after a seek', async () => {
  const { name, bootstrapServers, at } = await filled(3)
  const consumer = new ottla.Consumer({ bootstrapServers, assign: [at(0)], autoOffsetReset: 'none' })
  await consumer.connected()
  await consumer.seek(at(0), 1000)
  const error = await take(consumer, 1).then(assert.fail, error => error)
  assert.ok(error instanceof ottla.OffsetError, error)
  assert.deepEqual([error.topic, error.partition], [name, 0])
  await consumer.seekToBeginning(at(0))
  assert.deepEqual(texts(await take(consumer, 3)), ['0', '1', '2'])
  await consumer.close()
})

test('compressed batches are read, and few records of a large batch carry few bytes', async () => {
  for (const compressionType of ['gzip', 'snappy', 'lz4', 'zstd']) {
    const { producer: p, topic: name, bootstrapServers } = await producer({ compressionType, batchSize: 1_000_000, lingerMs: 20 })
    await p.sendMany(name, Array.from({ length: 2000 }, (_, i) => ({ value: `${i} ${'x'.repeat(100)}`, headers: { n: String(i) } })))
    const consumer = new ottla.Consumer({ bootstrapServers, topics: [name], autoOffsetReset: 'earliest' })
    const batch = await consumer.poll({ maxRecords: 3 })
    assert.equal(batch.length, 3)
    assert.ok(batch.at(0).value.buffer.byteLength < 2000, `${batch.at(0).value.buffer.byteLength} bytes`)
    const messages = [...batch, ...await take(consumer, 1997)]
    assert.ok(messages.every((message, i) => message.text().startsWith(`${i} `) && message.header('n').toString() === String(i)), compressionType)
    await consumer.close()
  }
})

test('the broker\'s clock is told apart from the producer\'s', async () => {
  const { bootstrapServers, name } = await topic(1, { 'message.timestamp.type': 'LogAppendTime' })
  const p = new ottla.Producer({ bootstrapServers })
  await p.send(name, 'x', { timestamp: 1 })
  const [message] = await read(bootstrapServers, name, 1)
  assert.equal(message.timestampType, 'append')
  assert.ok(message.timestamp > 1_600_000_000_000)
  await p.close()
})

test('options of a consumer that do not fit are refused', async () => {
  const { bootstrapServers } = await cluster()
  assert.throws(() => new ottla.Consumer({ bootstrapServers, assign: 'x' }), ottla.ArgumentError)
  assert.throws(() => new ottla.Consumer({ bootstrapServers, assign: [{ topic: 'x' }] }), ottla.ArgumentError)
  assert.throws(() => new ottla.Consumer({ bootstrapServers, topics: 'x' }), ottla.ArgumentError)
  assert.throws(() => new ottla.Consumer({ bootstrapServers, topics: ['x'], assign: [] }), ottla.ArgumentError)
  assert.throws(() => new ottla.Consumer({ bootstrapServers, assign: [{ topic: 'x', partition: -1 }] }), ottla.KafkaError)
})
