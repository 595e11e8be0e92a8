'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const ottla = require('ottla')
const { cluster, topic } = require('./help.cjs')

const TIMEOUT = { timeout: 60_000 }
let groups = 0

/** A topic of four partitions with ten records each, and a group that nobody knows. */
async function filled () {
  const { bootstrapServers, name } = await topic(4)
  const producer = new ottla.Producer({ bootstrapServers, lingerMs: 1 })
  for (let partition = 0; partition < 4; partition++) {
    await producer.sendMany(name, Array.from({ length: 10 }, (_, i) => ({ value: `${partition}/${i}`, partition })))
  }
  await producer.close()
  return { bootstrapServers, name, groupId: `group-${++groups}` }
}

function member ({ bootstrapServers, name, groupId }, options = {}) {
  return new ottla.Consumer({ bootstrapServers, groupId, topics: [name], autoOffsetReset: 'earliest', heartbeatIntervalMs: 50, ...options })
}

async function take (consumer, count) {
  const messages = []
  for await (const message of consumer) if (messages.push(message) === count) break
  return messages
}

/** How many offsets of the topic are committed in all. */
async function committed ({ bootstrapServers, groupId }) {
  const admin = new ottla.Admin({ bootstrapServers })
  const offsets = await admin.listConsumerGroupOffsets(groupId)
  await admin.close()
  return offsets.reduce((sum, { offset }) => sum + Number(offset), 0)
}

test('a restarted consumer goes on where it committed', TIMEOUT, async () => {
  const world = await filled()
  const first = member(world, { enableAutoCommit: false })
  const values = (await take(first, 15)).map(message => message.text())
  assert.deepEqual(first.subscription(), [world.name])
  await first.commit()
  assert.equal((await first.committed(first.assignment())).reduce((sum, { offset }) => sum + Number(offset ?? 0n), 0), 15)
  assert.equal((await first.close()).finished, true)
  const second = member(world)
  values.push(...(await take(second, 25)).map(message => message.text()))
  await second.close()
  assert.equal(new Set(values).size, 40)
})

test('a body that throws does not count its message', TIMEOUT, async () => {
  const world = await filled()
  const consumer = member(world)
  let count = 0
  await assert.rejects(async () => {
    for await (const message of consumer) if (++count === 7) throw new Error(`mine: ${message.offset}`)
  }, /mine/)
  const told = await consumer.close()
  assert.equal(told.unprocessed.length, 1)
  assert.equal(await committed(world), 6)
  assert.deepEqual(await consumer.close(), { committed: [], unprocessed: [], finished: true, error: null })
})

test('what was processed one by one is committed when the group is left, and by the clock while the loop runs', TIMEOUT, async () => {
  const world = await filled()
  const consumer = member(world, { autoCommitIntervalMs: 20 })
  await take(consumer, 7)
  await consumer.unsubscribe()
  assert.equal(await committed(world), 6)
  await consumer.subscribe([world.name])
  let count = 0
  for await (const message of consumer) {
    assert.ok(message)
    // Those of the last tenths of a second may be missing, and this one.
    if (++count === 6) while (await committed(world) < 8) ;
    if (count === 6) break
    await new Promise(resolve => setTimeout(resolve, 60))
  }
  await consumer.close()
})

test('what a loop has processed while onRevoked ran is committed as well', TIMEOUT, async () => {
  for (const how of ['close', 'unsubscribe']) {
    const { bootstrapServers, name } = await topic(1)
    const producer = new ottla.Producer({ bootstrapServers, lingerMs: 1 })
    await producer.sendMany(name, Array.from({ length: 4000 }, (_, i) => ({ value: `${i}`, partition: 0 })))
    await producer.close()
    const world = { bootstrapServers, name, groupId: `group-${++groups}` }
    let started, over
    const enough = new Promise(resolve => { over = resolve })
    const consumer = member(world, { onRevoked: () => { started = true; return enough } })
    let ending, count = 0, since = 0
    for await (const message of consumer) {
      assert.equal(Number(message.offset), count)
      if (++count === 20) ending = consumer[how]()
      if (started && ++since === 30) {
        over()
        break
      }
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    await ending
    await consumer.close()
    // Not the last one, whose body has not come to its end when the group was left.
    assert.equal(await committed(world), count - 1, how)
  }
})

test('batches, messages and offsets are committed, and only what is stored if so wished', TIMEOUT, async () => {
  const world = await filled()
  const consumer = member(world, { enableAutoCommit: false, enableAutoOffsetStore: false })
  const batch = await consumer.poll({ maxRecords: 8 })
  const message = batch.at(1)
  await consumer.commit(message)
  assert.deepEqual((await consumer.committed([message])).map(({ offset }) => offset), [message.offset + 1n])
  await consumer.commit()
  assert.equal(await committed(world), 2)
  consumer.storeOffsets(batch)
  consumer.commitAsync()
  await consumer.commit()
  assert.equal(await committed(world), 8)
  await consumer.commit([{ topic: world.name, partition: 3, offset: 4n, metadata: 'by hand' }])
  assert.deepEqual(await consumer.committed([[world.name, 3]]), [{ topic: world.name, partition: 3, offset: 4n, leaderEpoch: null, metadata: 'by hand' }])
  await consumer.close()
})

test('two members share, the functions that are told run on the loop, and one takes over', TIMEOUT, async () => {
  const world = await filled()
  const told = []
  const one = member(world, {
    onAssigned: partitions => told.push(['assigned', partitions.length]),
    onRevoked: async (partitions, consumer) => {
      await consumer.commit(partitions.map(of => ({ ...of, offset: 10 })))
      told.push(['revoked', partitions.length])
    },
    enableAutoCommit: false
  })
  await take(one, 1)
  const two = member(world)
  while (two.assignment === undefined || (await two.poll({ timeout: 50 }), two.assignment().length !== 2)) await one.poll({ timeout: 50 })
  for (const of of two.assignment()) assert.equal(await two.position(of), 10n)
  assert.equal((await two.close()).finished, true)
  // What a poll has not told yet is assigned already.
  while (one.assignment().length < 4 || told.at(-1)[0] !== 'assigned') await one.poll({ timeout: 50 })
  await one.close()
  assert.deepEqual(told[0], ['assigned', 4])
  assert.deepEqual(told.at(-1), ['revoked', 4])
})

test('a poll is aborted in the middle of a rebalance, and the consumer closes by its deadline', TIMEOUT, async () => {
  const world = await filled()
  const one = member(world)
  await take(one, 1)
  const two = member(world)
  await assert.rejects(two.poll({ signal: AbortSignal.timeout(300) }), { name: 'TimeoutError' })
  while ((await one.poll({ timeout: 50 }), await two.poll({ timeout: 50 }), two.assignment().length === 0));
  assert.equal((await two.close({ timeout: 10_000 })).finished, true)
  await one.close({ timeout: 0 })
})

test('a consumer says how it is', TIMEOUT, async () => {
  const world = await filled()
  const consumer = member(world)
  await take(consumer, 3)
  assert.equal(consumer.progress().length, 4)
  const { group } = consumer.health()
  assert.deepEqual([group.phase, group.groupId], ['stable', world.groupId])
  assert.equal(consumer.groupMetadata().groupId, world.groupId)
  consumer.extendPoll(1000)
  consumer.enforceRebalance('a test')
  await consumer.pause([[world.name, 0]])
  await consumer.unsubscribe()
  assert.deepEqual(consumer.assignment(), [])
  await consumer.subscribe({ pattern: new RegExp(world.name) })
  while ((await consumer.poll({ timeout: 50 }), consumer.assignment().length === 0));
  await consumer.close()
})

test('a commit that nobody waits for and a partition that stands still are told', TIMEOUT, async () => {
  const c = await cluster()
  const world = await filled()
  const events = []
  const consumer = member(world, { enableAutoCommit: false, stalledPartitionTimeoutMs: 200, onEvent: event => events.push(event) })
  const told = async (kind, where = () => true) => {
    const wanted = event => event.kind === kind && where(event)
    while (!events.some(wanted)) await consumer.poll({ timeout: 50 })
    return events.find(wanted)
  }
  while (consumer.assignment === undefined || (await consumer.poll({ timeout: 50 })).length === 0);
  c.fault('api=OffsetCommit error_before=30 times=1')
  consumer.commitAsync()
  const { error, partitions } = await told('commitFailed')
  assert.deepEqual([error.constructor, error.code, partitions], [ottla.AuthorizationError, 30, []])
  await consumer.commit()
  // Where a fetch fails again and again nothing moves.
  const other = await filled()
  c.fault('api=Fetch error_before=6')
  await consumer.subscribe([other.name])
  const { progress, partitions: [stalled] } = await told('stalled', event => event.partitions[0].topic === other.name && event.progress.position !== null)
  c.clearFaults()
  assert.deepEqual([stalled.topic, progress.topic, progress.position], [other.name, other.name, 0n])
  assert.equal(typeof progress.state, 'string')
  await consumer.close()
})

test('the admin client looks after groups', TIMEOUT, async () => {
  const world = await filled()
  const consumer = member(world)
  await take(consumer, 1)
  const admin = new ottla.Admin({ bootstrapServers: world.bootstrapServers })
  assert.equal((await admin.listGroups()).find(group => group.groupId === world.groupId).state, 'Stable')
  const [described] = await admin.describeConsumerGroups([world.groupId])
  assert.equal(described.members[0].assignment.length, 4)
  await assert.rejects(admin.describeConsumerGroups(['nobody']), ottla.KafkaError)
  const offsets = [{ topic: world.name, partition: 0, offset: 2 }]
  await assert.rejects(admin.alterConsumerGroupOffsets(world.groupId, offsets), ottla.KafkaError)
  await consumer.close()
  assert.deepEqual(await admin.alterConsumerGroupOffsets(world.groupId, offsets), [{ topic: world.name, partition: 0 }])
  await admin.deleteConsumerGroupOffsets(world.groupId, [[world.name, 0]])
  assert.deepEqual((await admin.listConsumerGroupOffsets(world.groupId)).filter(({ partition }) => partition === 0), [])
  await admin.deleteConsumerGroups([world.groupId])
  assert.equal((await admin.listGroups()).some(group => group.groupId === world.groupId), false)
  await admin.close()
})
