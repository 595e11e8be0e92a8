// How a program that uses Kafka tests itself: a real broker in the test's own process, and faults on request.
//
// node --test your-test.test.mjs

import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { Consumer, Producer } from 'ottla'
import { Cluster } from 'ottla/testing'

/** @type {Cluster} */
let cluster
/** @type {Producer} */
let producer
before(async () => {
  cluster = await Cluster.start({ 'num.partitions': 1 })
  producer = new Producer({ bootstrapServers: cluster.bootstrapServers })
})
after(async () => {
  await producer.close()
  await cluster.stop()
})

test('a record that the broker refuses twice is written once', async () => {
  cluster.fault('api=Produce topic=orders error_after=REQUEST_TIMED_OUT times=2')
  await producer.send('orders', 'one')

  const consumer = new Consumer({ bootstrapServers: cluster.bootstrapServers, topics: ['orders'], autoOffsetReset: 'earliest' })
  const [end] = await consumer.endOffsets([{ topic: 'orders', partition: 0 }])
  assert.equal(end?.offset, 1n)
  for await (const message of consumer) {
    assert.equal(message.text(), 'one')
    break
  }
  await consumer.close()
})
