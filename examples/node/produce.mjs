// Sends recorded GPS points to the topic `gpsraw`, each keyed by its track, so that a track stays in order.
//
// node produce.mjs localhost:9092 [file of points]

import { readFileSync } from 'node:fs'
import { Admin, BrokerError, Producer } from 'ottla'

const bootstrapServers = process.argv[2] ?? 'localhost:9092'
const file = process.argv[3] ?? new URL('../data/gpsraw.jsonl', import.meta.url)

const admin = new Admin({ bootstrapServers })
try {
  await admin.createTopics([{ name: 'gpsraw', partitions: 2 }])
} catch (error) {
  if (!(error instanceof BrokerError && error.codeName === 'TOPIC_ALREADY_EXISTS')) throw error
} finally {
  await admin.close()
}

const producer = new Producer({ bootstrapServers, compressionType: 'zstd' })
try {
  const points = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  // Each promise resolves when its record is acknowledged. Await them in groups: memory then holds one group, not the file.
  for (let at = 0; at < points.length; at += 1000) {
    await Promise.all(points.slice(at, at + 1000).map(line => {
      const point = JSON.parse(line)
      return producer.send('gpsraw', line, { key: point.track, timestamp: new Date(point.time) })
    }))
  }
} finally {
  const { delivered, failed, unknown } = await producer.close()
  console.log(`${delivered} points delivered, ${failed} failed, ${unknown} in doubt`)
}
