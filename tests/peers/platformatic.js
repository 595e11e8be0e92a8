'use strict'
// @platformatic/kafka for the tests. Its streams are members of a group; a partition is read by `Consumer.fetch`, which joins none.
const { Consumer, Producer } = require('@platformatic/kafka')
const { serve, toHex, unhex } = require('./lines.js')

async function produce ({ bootstrap, topic, codec, idempotent, records }) {
  const producer = new Producer({
    clientId: 'interop', bootstrapBrokers: [bootstrap], acks: -1, compression: codec, idempotent, autocreateTopics: false
  })
  try {
    await producer.send({
      messages: records.map(({ key, value, headers, timestamp }) => ({
        topic,
        key: unhex(key),
        value: unhex(value),
        // Keys are objects of their own: a Map keeps two equal ones.
        headers: new Map(headers.map(([name, data]) => [Buffer.from(name), unhex(data)])),
        ...(timestamp === null ? {} : { timestamp: BigInt(timestamp) })
      }))
    })
  } finally {
    await producer.close()
  }
  return { receipts: null } // it tells the first offset of each batch, not where a message is
}

async function consume ({ bootstrap, topic, partition, count }) {
  const consumer = new Consumer({ clientId: 'interop', groupId: 'not-joined', bootstrapBrokers: [bootstrap], maxWaitTime: 100 })
  try {
    const metadata = await consumer.metadata({ topics: [topic] })
    const { id: topicId, partitions } = metadata.topics.get(topic)
    const records = []
    while (records.length < count) {
      const at = {
        partition, fetchOffset: BigInt(records.length), currentLeaderEpoch: -1, lastFetchedEpoch: -1, partitionMaxBytes: 1 << 20
      }
      const { responses } = await consumer.fetch({ node: partitions[partition].leader, topics: [{ topicId, partitions: [at] }] })
      const batches = responses.flatMap(answer => answer.partitions).flatMap(answer => answer.records ?? [])
      for (const batch of batches) {
        for (const record of batch.records) {
          const offset = Number(batch.firstOffset) + record.offsetDelta
          if (offset < records.length) continue // before where we are, in the batch that holds it
          records.push({
            offset,
            timestamp: Number(batch.firstTimestamp + record.timestampDelta),
            key: toHex(record.key),
            value: toHex(record.value),
            headers: record.headers.map(([name, data]) => [name.toString(), toHex(data)])
          })
        }
      }
    }
    return { records }
  } finally {
    await consumer.close()
  }
}

async function group ({ bootstrap, group, topic, count }) {
  const consumer = new Consumer({
    clientId: 'interop', groupId: group, bootstrapBrokers: [bootstrap], maxWaitTime: 100, autocommit: false
  })
  const places = []
  try {
    const stream = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
    const next = new Map()
    for await (const { partition, offset } of stream) {
      places.push([partition, Number(offset)])
      next.set(partition, offset + 1n)
      if (places.length === count) break
    }
    const offsets = [...next].map(([partition, offset]) => ({ topic, partition, offset, leaderEpoch: -1 }))
    await consumer.commit({ offsets })
  } finally {
    await consumer.close(true)
  }
  return { places }
}

serve({ produce, consume, group })
