// Reads the topic `gpsraw` and works on several records at a time, those of a key in order.
//
// node parallel.mjs localhost:9092
//
// The next poll says that the batch before is processed, so it comes when all of it is done: what is committed was worked on.

import { Consumer, partitionForKey } from 'ottla'

const LANES = 4
/** @type {Record<string, number>} */
const counts = {}

/** @param {import('ottla').Message} message */
async function work (message) {
  await new Promise(resolve => setImmediate(resolve)) // a request to somewhere else
  const track = message.key?.toString() ?? ''
  counts[track] = (counts[track] ?? 0) + 1
}

const consumer = new Consumer({
  bootstrapServers: process.argv[2] ?? 'localhost:9092',
  groupId: 'workers',
  topics: ['gpsraw'],
  autoOffsetReset: 'earliest'
})
let points = 0
for (;;) {
  // Silence for two seconds ends this program; a service would simply go on.
  const batch = await consumer.poll({ timeout: points === 0 ? 30_000 : 2000 })
  if (batch === null || batch.length === 0) break
  /** @type {Map<number, Promise<void>>} */
  const lanes = new Map()
  for (const message of batch) {
    const lane = partitionForKey(message.key, LANES) ?? 0
    lanes.set(lane, (lanes.get(lane) ?? Promise.resolve()).then(() => work(message)))
  }
  // An error ends the program here: nothing of this batch counts as processed then.
  await Promise.all(lanes.values())
  points += batch.length
}
const { finished } = await consumer.close()
console.log(`${points} points of ${Object.keys(counts).length} tracks; left in time: ${finished}`)
