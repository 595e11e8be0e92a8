'use strict'
// The package `ottla`: a client for Apache Kafka and everything that speaks its protocol.

const { native } = require('./native.cjs')
const { classes, call } = require('./errors.cjs')
const { bytesOf, most } = require('./pack.cjs')
const { Producer, RecordMetadata } = require('./producer.cjs')
const { Consumer } = require('./consumer.cjs')
const { Message, Batch } = require('./message.cjs')
const { Admin } = require('./admin.cjs')
const { setLogger } = require('./log.cjs')

/** The partition that a built-in partitioner (default: Java's) chooses for a key; null if the key does not decide. */
function partitionForKey (key, partitions, { partitioner = 'default' } = {}) {
  most(key, 'key')
  const bytes = key === null || key === undefined ? undefined : Buffer.from(bytesOf(key))
  const partition = call(() => native.partitionForKey(partitioner, bytes, partitions))
  return partition < 0 ? null : partition
}

module.exports = { Producer, Consumer, Admin, Message, Batch, RecordMetadata, setLogger, partitionForKey, version: native.version(), ...classes }
