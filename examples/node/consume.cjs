// Reads the topic `gpsraw` from its beginning and tells of each track how many points it has and how long it is.
//
// node consume.cjs localhost:9092

const { Consumer } = require('ottla')

const RADIUS = 6371.0088 // of the earth, in kilometres

async function main () {
  const bootstrapServers = process.argv[2] ?? 'localhost:9092'
  const consumer = new Consumer({ bootstrapServers, topics: ['gpsraw'], autoOffsetReset: 'earliest' })
  const tracks = new Map()
  try {
    await consumer.connected()
    const ends = await consumer.endOffsets(consumer.assignment())
    let left = ends.reduce((sum, { offset }) => sum + Number(offset), 0)
    for await (const message of consumer) {
      const point = JSON.parse(message.text() ?? '')
      const track = tracks.get(message.keyText()) ?? { points: 0, km: 0, last: point }
      track.points++
      track.km += distance(track.last, point)
      track.last = point
      tracks.set(message.keyText(), track)
      if (--left === 0) break
    }
  } finally {
    await consumer.close()
  }
  for (const [name, { points, km }] of [...tracks].sort()) console.log(`${name.padEnd(20)}${String(points).padStart(6)}${km.toFixed(2).padStart(8)} km`)
}

/** @type {(a: { lat: number, lon: number }, b: { lat: number, lon: number }) => number} */
function distance (a, b) {
  const radians = Math.PI / 180
  const across = Math.sin((b.lat - a.lat) * radians / 2) ** 2
  const along = Math.sin((b.lon - a.lon) * radians / 2) ** 2
  const half = across + Math.cos(a.lat * radians) * Math.cos(b.lat * radians) * along
  return 2 * RADIUS * Math.asin(Math.sqrt(half))
}

main()
