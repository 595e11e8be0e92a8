// Reads the topic `gpsraw` as a member of the group `maps`, until it has been silent for a second. Start it twice: both share.
//
// node group.mjs localhost:9092

import { Consumer } from 'ottla'

/** @type {(partitions: import('ottla').TopicPartition[]) => string} */
const names = partitions => partitions.map(({ topic, partition }) => `${topic}-${partition}`).join(', ') || 'nothing'

const consumer = new Consumer({
  bootstrapServers: process.argv[2] ?? 'localhost:9092',
  groupId: 'maps',
  topics: ['gpsraw'],
  autoOffsetReset: 'earliest',
  // Partitions go to another member when this has settled.
  onRevoked: partitions => console.error('given up', names(partitions)),
  onAssigned: partitions => console.error('assigned', names(partitions))
})

let points = 0
for (;;) {
  const batch = await consumer.poll({ timeout: points === 0 ? 30_000 : 1000 })
  if (batch === null || batch.length === 0) break
  points += batch.length
}
const { finished, error } = await consumer.close()
console.log(`${points} points; left in time: ${finished}${error ? `; ${error}` : ''}`)
