// The runner of `tests/scenarios` for Node: `node scenario.mjs FILE...`. What it takes and gives is in tests/scenarios/README.md.

import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { createConnection } from 'node:net'
import { crc32 } from './crc32.mjs'
import { Admin, Consumer, KafkaError, Producer, partitionForKey } from '../lib/index.mjs'

const PATIENCE = 30_000
const TURN = 10
const LONG = 64

class Stage {
  constructor (address) {
    const [host, port] = address.split(':')
    this.socket = createConnection(Number(port), host)
    this.lines = createInterface({ input: this.socket })[Symbol.asyncIterator]()
  }

  async say (words) {
    this.socket.write(words + '\n')
    const { value: answer, done } = await this.lines.next()
    if (done) throw new Error('the stage is gone')
    if (answer === 'ok') return null
    if (answer.startsWith('ok ')) return answer.slice(3)
    throw new Error(`the stage: ${answer}`)
  }
}

/** A command in words. */
class Command {
  constructor (line) {
    const [name, ...words] = line.split(/ +/)
    this.name = name
    this.client = words.length > 0 && !words[0].includes('=') ? words.shift() : null
    this.words = words.map(word => {
      const at = word.indexOf('=')
      if (at < 0) throw new Error(`${word} is no NAME=VALUE`)
      return [word.slice(0, at), word.slice(at + 1)]
    })
  }

  raw (name) { return this.words.find(([of]) => of === name)?.[1] }
  needed (name) {
    const value = this.raw(name)
    if (value === undefined) throw new Error(`the word ${name} is missing`)
    return value
  }

  number (name) {
    const value = this.raw(name)
    return value === undefined ? undefined : Number(value)
  }

  bytes (name) {
    const value = this.raw(name)
    return value === undefined ? null : bytesOf(value)
  }

  others (...names) { return this.words.filter(([name]) => !names.includes(name)).map(([name, value]) => [name, textOf(value)]) }
}

function unescaped (text) {
  const parts = []
  for (let at = 0; at < text.length;) {
    if (text[at] === '%') {
      parts.push(Buffer.from(text.slice(at + 1, at + 3), 'hex'))
      at += 3
    } else {
      const end = text.indexOf('%', at)
      parts.push(Buffer.from(text.slice(at, end < 0 ? text.length : end)))
      at = end < 0 ? text.length : end
    }
  }
  return Buffer.concat(parts)
}

function bytesOf (text) {
  const many = /^@(\d+)\*(.+)$/s.exec(text)
  return many ? Buffer.alloc(Number(many[1]), unescaped(many[2])) : unescaped(text)
}

const textOf = text => unescaped(text).toString()

function shown (bytes) {
  if (bytes.length > LONG) return `@${bytes.length}~${crc32(bytes).toString(16).padStart(8, '0')}`
  return Array.from(bytes, byte => /[A-Za-z0-9._~-]/.test(String.fromCharCode(byte)) && byte < 128 ? String.fromCharCode(byte) : '%' + byte.toString(16).toUpperCase().padStart(2, '0')).join('')
}

const yesOrNo = yes => yes ? 'yes' : 'no'

function errorLine (error) {
  // Numbers from -1000 down are kinds, not codes of a broker.
  return `error kind=${error.kind} code=${error.code <= -1000 ? 'none' : error.code} retriable=${yesOrNo(error.retriable)}`
}

class Story {
  constructor (stem) {
    this.topics = `${process.env.OTTLA_PREFIX}.${stem}.`
    this.clients = new Map()
    this.error = ''
    this.printed = []
  }

  print (line) { this.printed.push(line) }

  /** What `work` gives; prints the error if it fails. */
  async attempt (work) {
    try {
      return await work()
    } catch (error) {
      this.remember(error)
      this.print(errorLine(error))
    }
  }

  remember (error) {
    if (!(error instanceof KafkaError)) throw error
    this.error = error.message
  }

  topic (name) { return this.topics + textOf(name) }
  partitions (text) {
    return text.split(',').filter(Boolean).map(word => {
      const at = word.lastIndexOf(':')
      return { topic: this.topic(word.slice(0, at)), partition: Number(word.slice(at + 1)) }
    })
  }

  name ({ topic, partition }) { return `${this.inside(topic)}:${partition}` }

  inside (name) { return name.startsWith(this.topics) ? name.slice(this.topics.length) : name }

  /** Partitions in order, as the scenario calls them. */
  listed (partitions) { return [...partitions].sort(byPlace).map(of => this.name(of)).join(',') || 'none' }

  client (command) {
    const client = this.clients.get(command.client)
    if (!client) throw new Error(`${command.client} is no client`)
    return client
  }

  async follow (line) {
    const command = new Command(line)
    const does = COMMANDS[command.name]
    if (!does) throw new Error(`there is no command ${command.name}`)
    await does.call(this, command)
  }

  async end () {
    for (const { client } of this.clients.values()) await client.close({ timeout: 0 }).catch(() => {})
  }
}

const byPlace = (a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition

/** Polls for a moment; what comes is told by the next `poll`. */
async function turn ({ client, kept }) {
  const batch = await client.poll({ timeout: TURN })
  if (batch === null) await new Promise(resolve => setTimeout(resolve, TURN))
  else kept.push(...batch)
}

/** The words `offset=TOPIC:PARTITION:OFFSET:METADATA`, the last part of which may be missing. */
function offsetsOf (command) {
  return command.words.filter(([name]) => name === 'offset').map(([, value]) => {
    const [topic, partition, offset, metadata] = value.split(':')
    return { topic: this.topic(topic), partition: Number(partition), offset: BigInt(offset), metadata: textOf(metadata ?? '') }
  })
}

async function build (command, Client, more = {}) {
  const keys = { 'bootstrap.servers': process.env.OTTLA_BOOTSTRAP, ...Object.fromEntries(command.others('assign')), ...more }
  if (keys['group.id']) keys['group.id'] = this.topics + keys['group.id']
  const client = await this.attempt(async () => {
    const client = new Client(keys)
    try {
      await client.connected()
    } catch (error) {
      await client.close().catch(() => {})
      throw error
    }
    return client
  })
  if (client) this.clients.set(command.client, { client, sends: [], told: 0, kept: [], events: [], isMember: Boolean(keys['group.id']) })
}

const COMMANDS = {
  producer (command) { return build.call(this, command, Producer) },
  async consumer (command) {
    const events = []
    const hear = what => partitions => { if (partitions.length > 0) events.push([what, partitions]) }
    const listeners = { onAssigned: hear('assigned'), onRevoked: hear('revoked'), onLost: hear('lost') }
    this.clients.delete(command.client)
    await build.call(this, command, Consumer, { assign: this.partitions(command.raw('assign') ?? ''), ...listeners })
    if (this.clients.has(command.client)) this.clients.get(command.client).events = events
  },

  admin (command) { return build.call(this, command, Admin) },

  async close (command) {
    const { client, isMember } = this.client(command)
    const closed = await this.attempt(() => client.close({ timeout: command.number('timeout_ms') ?? PATIENCE }))
    if (client instanceof Producer && closed) this.print(`closed delivered=${closed.delivered} failed=${closed.failed} unknown=${closed.unknown}`)
    if (!isMember || !closed) return
    if (closed.error) await this.attempt(() => { throw closed.error })
    else this.print(`closed committed=${closed.committed.length} unprocessed=${closed.unprocessed.length} finished=${yesOrNo(closed.finished)}`)
  },

  error_has (command) { this.print(yesOrNo(this.error.includes(textOf(command.needed('text'))))) },

  async create_topic (command) {
    const topic = { name: this.topic(command.needed('topic')), partitions: command.number('partitions'), configs: Object.fromEntries(command.others('topic', 'partitions')) }
    await this.attempt(() => this.client(command).client.createTopics([topic]))
  },

  async delete_topic (command) {
    await this.attempt(() => this.client(command).client.deleteTopics([this.topic(command.needed('topic'))]))
  },

  async send (command) {
    const entry = this.client(command)
    const headers = command.words.filter(([name]) => name === 'header').map(([, text]) => {
      const at = text.indexOf(':')
      return at < 0 ? [textOf(text), null] : [textOf(text.slice(0, at)), bytesOf(text.slice(at + 1))]
    })
    const options = { key: command.bytes('key'), headers, partition: command.number('partition'), timestamp: command.number('timestamp') }
    const sent = entry.client.send(this.topic(command.needed('topic')), command.bytes('value'), options)
    sent.catch(() => {})
    entry.sends.push(sent)
    await entry.client.ready()
  },

  async flush (command) { await this.client(command).client.flush().catch(() => {}) },

  async await (command) {
    const entry = this.client(command)
    await entry.client.flush().catch(() => {})
    for (const sent of entry.sends.splice(0)) {
      const number = ++entry.told
      try {
        const { partition, offset } = await sent
        this.print(`${number} partition=${partition} offset=${offset ?? 'none'}`)
      } catch (error) {
        this.remember(error)
        this.print(`${number} ${errorLine(error)} persisted=${error.persisted}`)
      }
    }
  },

  async poll (command) {
    const { client, kept } = this.client(command)
    const until = command.number('until')
    const deadline = performance.now() + PATIENCE
    const seen = kept.splice(0)
    let end = null
    while (seen.length < until && !end) {
      try {
        const batch = await client.poll({ timeout: Math.max(0, deadline - performance.now()) })
        if (batch === null) end = 'closed'
        else if (batch.length === 0) end = 'nothing more'
        else seen.push(...batch)
      } catch (error) {
        this.remember(error)
        end = errorLine(error)
      }
    }
    seen.sort((a, b) => byPlace(a, b) || a.offsetNumber - b.offsetNumber)
    for (const message of seen) {
      let line = `${this.name(message)} offset=${message.offset}`
      for (const part of ['key', 'value']) if (message[part] !== null) line += ` ${part}=${shown(message[part])}`
      for (const { key, value } of message.headers) line += ` header=${shown(Buffer.from(key))}${value === null ? '' : ':' + shown(value)}`
      if (command.raw('timestamps') === 'yes') line += ` timestamp=${message.timestamp}`
      this.print(line)
    }
    if (end) this.print(end)
  },

  async position (command) {
    const [partition] = this.partitions(command.needed('partition'))
    const position = await this.attempt(() => this.client(command).client.position(partition))
    if (position !== undefined) this.print(`${this.name(partition)} position=${position}`)
  },

  async subscribe (command) {
    const pattern = command.raw('pattern')
    const what = pattern === undefined
      ? command.needed('topics').split(',').filter(Boolean).map(topic => this.topic(topic))
      : { pattern: this.topics.replaceAll('.', '\\.') + textOf(pattern) }
    await this.attempt(() => this.client(command).client.subscribe(what))
  },

  async unsubscribe (command) { await this.attempt(() => this.client(command).client.unsubscribe()) },

  async subscription (command) {
    const topics = await this.attempt(() => this.client(command).client.subscription())
    if (topics) this.print(topics.map(topic => this.inside(topic)).join(',') || 'none')
  },

  async assignment (command) {
    const partitions = await this.attempt(() => this.client(command).client.assignment())
    if (partitions) this.print(this.listed(partitions))
  },

  share (command) {
    const names = command.client.split(',').sort()
    const readers = names.map(name => this.client({ client: name }))
    const wanted = this.listed(this.partitions(command.needed('partitions')))
    const deadline = performance.now() + PATIENCE
    return this.attempt(async () => {
      for (;;) {
        const shares = readers.map(({ client }) => client.assignment())
        const counts = shares.map(share => share.length)
        // Once more in the end, so that each has heard of what it got.
        for (const reader of readers) await turn(reader)
        if (this.listed(shares.flat()) === wanted && Math.max(...counts) - Math.min(...counts) <= 1) {
          return this.print(names.map((name, place) => `${name}=${counts[place]}`).join(' '))
        }
        if (performance.now() > deadline) {
          return names.forEach((name, place) => this.print(`not shared: ${name} has ${this.listed(shares[place])}`))
        }
      }
    })
  },

  async events (command) {
    const reader = this.client(command)
    const until = command.number('until') ?? 0
    const deadline = performance.now() + PATIENCE
    let end = null
    while (reader.events.length < until && !end) {
      try {
        await turn(reader)
        if (performance.now() > deadline) end = 'nothing more'
      } catch (error) {
        this.remember(error)
        end = errorLine(error)
      }
    }
    for (const [what, partitions] of reader.events.splice(0)) this.print(`${what} ${this.listed(partitions)}`)
    if (end) this.print(end)
  },

  async commit (command) {
    const offsets = offsetsOf.call(this, command)
    await this.attempt(() => this.client(command).client.commit(offsets.length > 0 ? offsets : undefined))
  },

  async store_offsets (command) { await this.attempt(() => this.client(command).client.storeOffsets(offsetsOf.call(this, command))) },

  async committed (command) {
    const found = await this.attempt(() => this.client(command).client.committed(this.partitions(command.needed('partitions'))))
    for (const of of (found ?? []).sort(byPlace)) {
      this.print(`${this.name(of)} committed=${of.offset ?? 'none'}${of.metadata ? ` metadata=${shown(Buffer.from(of.metadata))}` : ''}`)
    }
  },

  async membership (command) {
    const known = await this.attempt(() => this.client(command).client.groupMetadata())
    if (!known) return
    const { groupId, groupInstanceId, memberId, generationId } = known
    this.print(`group=${this.inside(groupId)} instance=${groupInstanceId ?? 'none'} member=${yesOrNo(memberId !== '')} generation=${yesOrNo(generationId >= 0)}`)
  },

  async enforce_rebalance (command) { await this.attempt(() => this.client(command).client.enforceRebalance(textOf(command.raw('reason') ?? ''))) },

  partition_for (command) { this.print(placeOf(textOf(command.needed('rule')), command.bytes('key'), command.number('partitions'))) },

  partition_vectors (command) {
    const lines = readFileSync(command.needed('file'), 'utf8').split('\n').filter(line => line !== '' && !line.startsWith('#'))
    for (const line of lines) {
      const [rule, word, partitions, expected] = line.split(' ')
      const place = placeOf(rule, word === 'null' ? null : Buffer.from(word === 'empty' ? '' : word, 'hex'), Number(partitions))
      if (place !== expected) this.print(`${rule} ${word} ${partitions} is ${place}`)
    }
    this.print(`${lines.length} lines`)
  }
}

for (const [name, method] of [['beginning_offsets', 'beginningOffsets'], ['end_offsets', 'endOffsets']]) {
  COMMANDS[name] = async function (command) {
    const partitions = this.partitions(command.needed('partitions'))
    const offsets = await this.attempt(() => this.client(command).client[method](partitions))
    for (const found of offsets ?? []) this.print(`${this.name(found)} offset=${found.offset}`)
  }
}
for (const name of ['assign', 'pause', 'resume']) {
  COMMANDS[name] = async function (command) {
    await this.attempt(() => this.client(command).client[name](this.partitions(command.needed('partitions'))))
  }
}
for (const [name, method, word] of [['seek', 'seek', 'offset'], ['seek_to_beginning', 'seekToBeginning'], ['seek_to_end', 'seekToEnd'], ['seek_to_timestamp', 'seekToTimestamp', 'timestamp']]) {
  COMMANDS[name] = async function (command) {
    const [partition] = this.partitions(command.needed('partition'))
    await this.attempt(() => this.client(command).client[method](partition, word && command.number(word)))
  }
}

function placeOf (partitioner, key, partitions) {
  return String(partitionForKey(key, partitions, { partitioner }) ?? 'any')
}

async function tell (stage, file) {
  const stem = basename(file, '.txt')
  await stage.say(`begin ${stem}`)
  process.stdout.write(`=== ${stem}\n`)
  const story = new Story(stem)
  for (const text of readFileSync(file, 'utf8').split('\n')) {
    const line = text.trimEnd()
    if (line === '' || line.startsWith('#') || line.startsWith('-> ')) continue
    try {
      if (line.startsWith('stage ')) {
        const answer = await stage.say(line.slice(6))
        if (answer !== null) story.print(answer)
      } else await story.follow(line)
    } catch (cause) {
      throw new Error(`${stem}: ${line}: ${cause.message}`, { cause })
    }
    process.stdout.write([line, ...story.printed.splice(0).map(printed => `-> ${printed}`), ''].join('\n'))
  }
  await story.end()
}

const stage = new Stage(process.env.OTTLA_STAGE)
for (const file of process.argv.slice(2)) await tell(stage, file)
stage.socket.destroy()
