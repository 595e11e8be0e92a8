'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { ottla } = require('./help.cjs')
const { KINDS, fromFacts } = require('../lib/errors.cjs')
const { native } = require('../lib/native.cjs')
const { keyOf } = require('../lib/options.cjs')

test('there is one class for each kind of the core, with its number', () => {
  const kinds = JSON.parse(native.kinds())
  assert.deepEqual(KINDS.map(([kind, , code]) => [kind, code]), kinds.map(({ name, number }) => [name, number]))
  for (const [kind, name, code] of KINDS) {
    const error = fromFacts({ kind, code, message: 'm', retriable: true, persisted: 'possibly' })
    assert.ok(error instanceof ottla[name] && error instanceof ottla.KafkaError && error instanceof Error)
    assert.deepEqual([error.name, error.kind, error.code, error.retriable, error.persisted], [name, kind, code, true, 'possibly'])
    assert.deepEqual([new ottla[name]('m').kind, new ottla[name]('m').code], [kind, code])
  }
})

test('a kind that this version does not know is an UnknownError', () => {
  assert.ok(fromFacts({ kind: 'of_tomorrow', message: 'm' }) instanceof ottla.UnknownError)
})

test('keys are Kafka\'s own or the same in camel case', () => {
  assert.equal(keyOf('bootstrapServers'), 'bootstrap.servers')
  assert.equal(keyOf('maxInFlightRequestsPerConnection'), 'max.in.flight.requests.per.connection')
  assert.equal(keyOf('linger.ms'), 'linger.ms')
  assert.equal(keyOf('acks'), 'acks')
})

test('a mistake in the options is told at once, with the nearest key', () => {
  const wrong = options => assert.throws(() => new ottla.Producer(options), error => error instanceof ottla.ConfigError, JSON.stringify(options))
  assert.throws(() => new ottla.Producer({ bootstrapServers: 'x:1', lingerMsec: 5 }), error => error instanceof ottla.ConfigError && /linger\.ms/.test(error.message))
  wrong({})
  wrong({ bootstrapServers: 'x:1', acks: 'some' })
  wrong({ bootstrapServers: 'x:1', 'linger.ms': 'soon' })
  wrong({ bootstrapServers: 'x:1', 'linger.ms': null })
  wrong({ bootstrapServers: 'x:1', 'linger.ms': {} })
  assert.throws(() => new ottla.Producer(), ottla.KafkaError)
  assert.throws(() => new ottla.Producer('localhost'), ottla.KafkaError)
  assert.throws(() => new ottla.Producer({ bootstrapServers: 'x:1', onError: 5 }), ottla.ArgumentError)
  assert.throws(() => new ottla.Admin({ bootstrapServers: 'x:1', nonsense: 5 }), ottla.ConfigError)
  assert.throws(() => new ottla.Consumer({ bootstrapServers: 'x:1', fetchMinBytes: 'x' }), ottla.ConfigError)
})

test('a broker that is not there is a ConnectError of whoever waits', async () => {
  const bootstrapServers = '127.0.0.1:1'
  const p = new ottla.Producer({ bootstrapServers })
  await assert.rejects(p.connected(), ottla.ConnectError)
  await assert.rejects(p.send('t', 'x'), ottla.ConnectError)
  p.enqueue('t', 'x')
  await assert.rejects(p.close(), ottla.ConnectError)
  const c = new ottla.Consumer({ bootstrapServers, assign: [['t', 0]] })
  await assert.rejects(c.poll(), ottla.ConnectError)
  await c.close()
  const a = new ottla.Admin({ bootstrapServers })
  await assert.rejects(a.listTopics(), ottla.ConnectError)
  await a.close()
})

test('a partitioner that is not there is refused', () => {
  assert.throws(() => ottla.partitionForKey('k', 3, { partitioner: 'dice' }), ottla.ArgumentError)
})
