'use strict'
// Adapter of Ottla's Node binding. With --batch-size, --buffer-memory the keys of these names.
const { arg, num, cpu, nowNs, secs, pool, keysOf, out, latency, loop, stamp } = require('./common.js')
const { Consumer, Producer, version } = require('ottla')
const client = 'ottla-node'
const mode = arg('mode', 'produce'); const topic = arg('topic', 't'); const bootstrapServers = arg('bootstrap')
const n = num('messages', 1000000); const size = num('size', 100)
// Sends that are not acknowledged yet: as many as other clients have in theirs.
const WINDOW = 10000; const STEP = 500

function consumer (onAssigned) {
  if (arg('assign', '0') !== '1') return new Consumer({ bootstrapServers, groupId: arg('group', topic), topics: [topic], autoOffsetReset: 'earliest', onAssigned })
  const partitions = num('partitions', 1)
  return new Consumer({ bootstrapServers, assign: Array.from({ length: partitions }, (_, p) => [topic, p]), autoOffsetReset: 'earliest' })
}
async function main () {
  if (mode === 'consume') {
    const c0 = cpu(); const t0 = nowNs(); let first; let got = 0; let bytes = 0
    const delay = loop()
    let joined
    const c = consumer(partitions => { if (partitions.length) joined ??= nowNs() })
    for await (const m of c) {
      first ??= nowNs()
      bytes += m.value.length
      if (++got === n) break
    }
    const last = nowNs(); const told = {}
    if (joined) {
      await c.commit()
      Object.assign(told, { assigned_s: secs(t0, joined), commit_s: secs(last, nowNs()) })
    }
    out({ client, version, messages: got, bytes, seconds: secs(first, last), join_s: secs(t0, first), cpu_s: cpu() - c0, ...told, ...delay() })
    return c.close()
  }
  const values = pool(size); const keys = keysOf()
  const options = { bootstrapServers, acks: arg('acks', 'all'), lingerMs: num('linger', 5), compressionType: arg('compression', 'none'), enableIdempotence: arg('idempotence', '0') === '1' }
  if (arg('batch-size')) options.batchSize = num('batch-size')
  if (arg('buffer-memory')) options.bufferMemory = num('buffer-memory')
  const p = new Producer(options)
  await p.connected()
  if (mode === 'latency') {
    const lat = []
    const c = consumer()
    ;(async () => { for await (const m of c) lat.push(stamp(m.value)) })()
    await latency(client, version, size, b => p.enqueue(topic, b), lat)
    process.exit()
  }
  let failed = 0
  const delay = loop()
  const c0 = cpu(); const t0 = nowNs()
  if (arg('promises', '0') === '1') {
    const fail = () => { failed++ }
    const open = []
    for (let i = 0; i < n;) {
      const step = []
      for (const end = Math.min(n, i + STEP); i < end; i++) step.push(p.send(topic, values[i % values.length], keys && { key: keys[i % keys.length] }))
      open.push(Promise.all(step).catch(fail))
      if (open.length === WINDOW / STEP) await open.shift()
    }
    await Promise.all(open)
  } else {
    for (let i = 0; i < n; i++) {
      if (!p.enqueue(topic, values[i % values.length], keys && { key: keys[i % keys.length] })) await p.ready()
      else if (i % 5000 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    failed = await p.flush().then(() => 0, error => error.count)
  }
  out({ client, version, messages: n - failed, failed, bytes: (n - failed) * size, seconds: secs(t0, nowNs()), cpu_s: cpu() - c0, ...delay() })
  await p.close()
}
main()
