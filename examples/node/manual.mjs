// Reads the topic `gpsraw` and keeps the positions itself, beside its result, in a file.
//
// node manual.mjs localhost:9092 state.json
//
// The file is replaced as a whole, so no point is counted twice or left out, whenever this program ends. A database does the same
// with one transaction. Run it again: it goes on there.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Consumer } from 'ottla'

const [bootstrapServers = 'localhost:9092', file = 'state.json'] = process.argv.slice(2)
/** @type {{ points: number, positions: Record<string, number> }} */
const state = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { points: 0, positions: {} }
const before = state.points

const consumer = new Consumer({ bootstrapServers, autoOffsetReset: 'earliest' })
await consumer.assign(await consumer.partitionsFor('gpsraw'))
for (const [partition, offset] of Object.entries(state.positions)) {
  await consumer.seek({ topic: 'gpsraw', partition: Number(partition) }, offset)
}
for (;;) {
  // Silence for two seconds ends this program; a service would simply go on.
  const batch = await consumer.poll({ timeout: 2000 })
  if (batch === null || batch.length === 0) break
  state.points += batch.length
  for (const message of batch) state.positions[message.partition] = message.offsetNumber + 1
  writeFileSync(`${file}.new`, JSON.stringify(state))
  renameSync(`${file}.new`, file)
}
await consumer.close()
console.log(`${state.points - before} points more, ${state.points} in all`)
