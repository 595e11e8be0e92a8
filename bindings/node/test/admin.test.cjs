'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { ottla, cluster } = require('./help.cjs')

async function admin () {
  const { bootstrapServers } = await cluster()
  return new ottla.Admin({ bootstrapServers })
}

test('topics are created, described, widened, listed and deleted', async () => {
  const a = await admin()
  const created = await a.createTopics([{ name: 'roads', partitions: 2, replicationFactor: 1, configs: { 'retention.ms': 1000 } }, 'paths'])
  assert.deepEqual(created.map(({ name, partitions }) => [name, partitions]), [['paths', 1], ['roads', 2]])
  await a.createPartitions([{ name: 'roads', total: 4 }])
  const [roads] = await a.describeTopics(['roads'])
  assert.deepEqual([roads.name, roads.partitions.length, roads.partitions[3].leader], ['roads', 4, roads.partitions[0].leader])
  assert.ok((await a.listTopics()).some(({ name }) => name === 'paths'))
  await a.deleteTopics(['roads', 'paths'])
  assert.ok(!(await a.listTopics()).some(({ name }) => name === 'paths'))
  await a.close()
  await assert.rejects(a.listTopics(), ottla.ClosedError)
})

test('when one of several fails, the error tells of each', async () => {
  const a = await admin()
  await a.createTopics(['there'])
  const error = await a.createTopics(['there', 'new']).then(assert.fail, error => error)
  assert.ok(error instanceof ottla.BrokerError, error)
  assert.deepEqual([error.code, error.codeName], [36, 'TOPIC_ALREADY_EXISTS'])
  assert.deepEqual(error.results.map(result => [result.name, Boolean(result.error)]), [['new', false], ['there', true]])
  await assert.rejects(a.describeTopics(['nowhere']), ottla.UnknownTopicError)
  await a.close()
})

test('what could be created is only said with validateOnly', async () => {
  const a = await admin()
  await a.createTopics([{ name: 'perhaps', partitions: 3 }], { validateOnly: true })
  assert.ok(!(await a.listTopics()).some(({ name }) => name === 'perhaps'))
  await a.close()
})

test('the cluster is described', async () => {
  const a = await admin()
  const { clusterId, brokers } = await a.describeCluster()
  assert.ok(clusterId.length > 0)
  const { bootstrapServers } = await cluster()
  assert.equal(`${brokers[0].host}:${brokers[0].port}`, bootstrapServers)
  await a.close()
})

test('arguments that do not fit are refused', async () => {
  const a = await admin()
  await assert.rejects(a.createTopics('x'), ottla.ArgumentError)
  await assert.rejects(a.createTopics([{}]), ottla.ArgumentError)
  await assert.rejects(a.createTopics([{ name: 'x', partitions: 'many' }]), /partitions of topic/)
  await assert.rejects(a.deleteTopics('x'), ottla.ArgumentError)
  await assert.rejects(a.createPartitions([{ name: 'x' }]), ottla.ArgumentError)
  await a.close()
})
