'use strict'
// Topics and groups.

const { native } = require('./native.cjs')
const { classes: { ArgumentError }, fromFacts, call } = require('./errors.cjs')
const { Post } = require('./post.cjs')
const { pairsOf } = require('./options.cjs')
const { listOf } = require('./partitions.cjs')
const { camel, committedOf, offsetRows } = require('./group.cjs')

class Admin {
  #native
  #post = new Post(this)

  constructor (options) {
    const self = new WeakRef(this)
    this.#native = call(() => new native.Admin(pairsOf(options), () => self.deref()?.#woken()))
  }

  #woken () {
    this.#post.deliver(this.#native.takeMail())
  }

  /** Connects, as the first call would do. */
  connected ({ signal } = {}) {
    return this.#post.ask(id => this.#native.connected(id), { signal })
  }

  /**
   * Creates topics, names or `{ name, partitions, replicationFactor, configs, assignments }`; with `validateOnly` says whether they
   * could be. Rejects with the first error if one could not be; its `results` tells of each.
   */
  async createTopics (topics, { validateOnly = false, signal } = {}) {
    if (!Array.isArray(topics)) throw new ArgumentError('createTopics takes a list of topics')
    const list = JSON.stringify(topics.map(topic => typeof topic === 'string' ? { name: topic } : topic))
    return each(await this.#post.ask(id => this.#native.createTopics(id, list, Boolean(validateOnly)), { signal }))
  }

  async deleteTopics (names, { signal } = {}) {
    return each(await this.#post.ask(id => this.#native.deleteTopics(id, namesOf(names)), { signal }))
  }

  /** Gives topics more partitions: `[{ name, total }]`. */
  async createPartitions (totals, { signal } = {}) {
    if (!Array.isArray(totals)) throw new ArgumentError('createPartitions takes a list of { name, total }')
    const list = JSON.stringify(totals.map(({ name, total }) => [name, total]))
    return each(await this.#post.ask(id => this.#native.createPartitions(id, list), { signal }))
  }

  listTopics ({ signal } = {}) {
    return this.#post.ask(id => this.#native.listTopics(id), { signal })
  }

  /** Partitions, leaders and replicas of topics. */
  async describeTopics (names, { signal } = {}) {
    return each(await this.#post.ask(id => this.#native.describeTopics(id, namesOf(names)), { signal }))
  }

  describeCluster ({ signal } = {}) {
    return this.#post.ask(id => this.#native.describeCluster(id), { signal })
  }

  /** All groups, or those in some states or of some types. */
  async listGroups ({ states = [], types = [], signal } = {}) {
    const text = await this.#post.ask(id => this.#native.listGroups(id, namesOf(states), namesOf(types)), { signal })
    return JSON.parse(text).map(camel)
  }

  /** States, members and assignments of groups. */
  async describeConsumerGroups (groups, { signal } = {}) {
    const answers = await this.#post.ask(id => this.#native.describeConsumerGroups(id, namesOf(groups)), { signal })
    return each(answers).map(({ name, json }) => ({ name, ...groupOf(JSON.parse(json)) }))
  }

  /** All committed offsets of a group: `[{ topic, partition, offset, leaderEpoch, metadata }]`. */
  async listConsumerGroupOffsets (group, { requireStable = false, signal } = {}) {
    const ask = id => this.#native.listConsumerGroupOffsets(id, String(group), Boolean(requireStable))
    return (await this.#post.ask(ask, { signal })).map(committedOf)
  }

  /** Commits offsets on behalf of a group that has no members: `[{ topic, partition, offset, metadata, leaderEpoch }]`. */
  async alterConsumerGroupOffsets (group, offsets, { signal } = {}) {
    const list = offsetRows(offsets)
    return eachPartition(await this.#post.ask(id => this.#native.alterConsumerGroupOffsets(id, String(group), list), { signal }))
  }

  /** Forgets committed offsets, of topics that no member of the group is subscribed to. */
  async deleteConsumerGroupOffsets (group, partitions, { signal } = {}) {
    const list = JSON.stringify(listOf(partitions))
    return eachPartition(await this.#post.ask(id => this.#native.deleteConsumerGroupOffsets(id, String(group), list), { signal }))
  }

  /** Deletes groups without members, with all their committed offsets. */
  async deleteConsumerGroups (groups, { signal } = {}) {
    return each(await this.#post.ask(id => this.#native.deleteConsumerGroups(id, namesOf(groups)), { signal }))
  }

  /** Closes the connections as soon as open calls have ended. */
  async close () {
    call(() => this.#native.close())
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')] () {
    return this.close()
  }
}

function namesOf (names) {
  if (!Array.isArray(names) || !names.every(name => typeof name === 'string')) throw new ArgumentError('topics must be a list of names')
  return JSON.stringify(names)
}

/** Answers thing by thing: all, or the first error with all of them. */
function each (answers) {
  const results = Object.entries(answers).map(([name, { answer, error }]) =>
    error ? { name, error: fromFacts(error) } : { name, ...answer })
  const failed = results.find(result => result.error)
  if (!failed) return results
  failed.error.results = results
  throw failed.error
}

/** The same for partitions. */
function eachPartition (rows) {
  const results = rows.map(([topic, partition, error]) =>
    error ? { topic, partition, error: fromFacts(error) } : { topic, partition })
  const failed = results.find(result => result.error)
  if (!failed) return results
  failed.error.results = results
  throw failed.error
}

function groupOf (group) {
  const objects = list => list && list.map(([topic, partition]) => ({ topic, partition }))
  const members = group.members.map(member => ({
    ...camel(member),
    assignment: objects(member.assignment),
    targetAssignment: objects(member.target_assignment)
  }))
  return { ...camel(group), members }
}

module.exports = { Admin }
