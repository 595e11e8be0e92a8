'use strict'
// kafkajs for the tests. It produces and reads as a member of a group: its consumer cannot take a partition without joining one.
// gzip is its own; snappy comes from kafkajs-snappy; lz4 and zstd, which its plug-ins compile, from lz4-napi and Node.
const zlib = require('node:zlib')
const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const { serve, unhex } = require('./lines.js')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrameSync(encoder.buffer),
  decompress: async buffer => lz4.decompressFrameSync(buffer)
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer)
})
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }

// Headers are an object: the values of a repeated key form a list.
function headersOf (pairs) {
  const headers = {}
  for (const [key, value] of pairs) (headers[key] ??= []).push(unhex(value))
  return headers
}

async function produce ({ bootstrap, topic, codec, idempotent, records }) {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
    idempotent,
    maxInFlightRequests: idempotent ? 1 : undefined
  })
  await producer.connect()
  try {
    await producer.send({
      topic,
      acks: -1,
      compression: CompressionTypes[CODECS[codec]],
      messages: records.map(({ key, value, headers, timestamp }) => ({
        key: unhex(key),
        value: unhex(value),
        headers: headersOf(headers),
        ...(timestamp === null ? {} : { timestamp: String(timestamp) })
      }))
    })
  } finally {
    await producer.disconnect()
  }
  return { receipts: null } // it tells the first offset of each partition, not where a message is
}

async function group ({ bootstrap, group, topic, count }) {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100, retry: { retries: 20, initialRetryTime: 50 } })
  const places = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
      consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          places.push([partition, Number(message.offset)])
          if (places.length === count) resolve()
        }
      }).catch(reject)
    })
    const next = new Map()
    for (const [partition, offset] of places) next.set(partition, Math.max(next.get(partition) ?? 0, offset + 1))
    await consumer.commitOffsets([...next].map(([partition, offset]) => ({ topic, partition, offset: String(offset) })))
  } finally {
    await consumer.disconnect()
  }
  return { places }
}

serve({ produce, group })
