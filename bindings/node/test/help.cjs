'use strict'
// What the tests share: a broker for each file, child processes, waiting for conditions.

const { after } = require('node:test')
const { spawn } = require('node:child_process')
const { join } = require('node:path')
const ottla = require('ottla')
const { Cluster } = require('ottla/testing')

const root = join(__dirname, '..')
let started
let topics = 0
/** What is to be ended after the last test of the file. */
const ends = []
after(async () => {
  for (const end of ends.reverse()) await end()
})

/** The broker of this test file. */
function cluster () {
  if (!started) {
    started = Cluster.start({ 'auto.create.topics.enable': false })
    ends.push(async () => (await started).stop())
  }
  return started
}

/** A new topic on it. */
async function topic (partitions = 1, configs = {}) {
  const { bootstrapServers } = await cluster()
  const admin = new ottla.Admin({ bootstrapServers })
  const name = `topic-${++topics}`
  await admin.createTopics([{ name, partitions, configs }])
  await admin.close()
  return { bootstrapServers, name }
}

/** A producer and its topic, closed at the end of the file. */
async function producer (options = {}, partitions = 1) {
  const { bootstrapServers, name } = await topic(partitions)
  const one = new ottla.Producer({ bootstrapServers, lingerMs: 1, ...options })
  ends.push(() => one.close({ timeout: 5000 }).catch(() => {}))
  return { producer: one, bootstrapServers, topic: name }
}

/** The first `count` messages of a topic, from the beginning. */
async function read (bootstrapServers, name, count) {
  const consumer = new ottla.Consumer({ bootstrapServers, topics: [name], autoOffsetReset: 'earliest' })
  const messages = []
  if (count > 0) {
    for await (const message of consumer) {
      if (messages.push(message) === count) break
    }
  }
  await consumer.close()
  return messages
}

/** How many records a topic has. */
async function size (bootstrapServers, name) {
  const consumer = new ottla.Consumer({ bootstrapServers, topics: [name] })
  await consumer.connected()
  const ends = await consumer.endOffsets(consumer.assignment())
  await consumer.close()
  return ends.reduce((sum, { offset }) => sum + Number(offset), 0)
}

/** Runs a program in a process of its own, which must end by itself; `P` in it is the package. */
function run (code, { args = [], module = false, milliseconds = 60_000 } = {}) {
  return new Promise((resolve, reject) => {
    const head = module ? '' : "const P = require('ottla'); "
    const child = spawn(process.execPath, [module ? '--input-type=module' : '--input-type=commonjs', '-e', head + code, ...args], { cwd: root })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', text => { stdout += text })
    child.stderr.on('data', text => { stderr += text })
    const late = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`did not end by itself:\n${stdout}\n${stderr}`))
    }, milliseconds)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(late)
      resolve({ code, signal, stdout, stderr })
    })
  })
}

/** Waits until `holds` says so. */
async function until (holds) {
  while (!await holds()) await new Promise(resolve => setTimeout(resolve, 5))
}

module.exports = { ottla, cluster, topic, producer, read, size, run, until, root }
