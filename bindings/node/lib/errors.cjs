'use strict'
// Errors: one class for each kind. The kinds are those of the native half; a test compares the lists.

/** The base of all errors of this package. */
class KafkaError extends Error {
  constructor (message, facts = {}) {
    super(message)
    /** What kind of trouble, the same word in every language: `unknown_topic`, `timeout`, ... */
    this.kind = facts.kind ?? this.constructor.kind ?? 'unknown'
    /** The broker's own code if a broker said it, else the number of the kind (-1000 and below). */
    this.code = facts.code ?? this.constructor.code ?? -1021
    /** Kafka's name for the broker's code, as `NOT_LEADER_OR_FOLLOWER`, or null. */
    this.codeName = facts.codeName ?? null
    /** Whether the same call may succeed later. */
    this.retriable = facts.retriable ?? false
    /** Whether the record may be in the log: `no`, `possibly`, `yes`. */
    this.persisted = facts.persisted ?? 'no'
    /** What it is about, if it is about one partition. */
    this.topic = facts.topic ?? null
    this.partition = facts.partition ?? null
    this.offset = facts.offset == null ? null : BigInt(facts.offset)
    /** How often a record was tried. */
    this.attempts = facts.attempts ?? 0
  }
}
Object.defineProperty(KafkaError.prototype, 'name', { value: 'KafkaError', configurable: true, writable: true })

/** Kind, class, number. */
const KINDS = [
  ['config', 'ConfigError', -1000],
  ['argument', 'ArgumentError', -1001],
  ['connect', 'ConnectError', -1002],
  ['disconnected', 'DisconnectedError', -1003],
  ['timeout', 'TimeoutError', -1004],
  ['protocol', 'ProtocolError', -1005],
  ['unsupported', 'UnsupportedError', -1006],
  ['unknown_topic', 'UnknownTopicError', -1007],
  ['authorization', 'AuthorizationError', -1008],
  ['authentication', 'AuthenticationError', -1009],
  ['fenced', 'FencedError', -1010],
  ['too_large', 'TooLargeError', -1011],
  ['queue_full', 'QueueFullError', -1012],
  ['offset', 'OffsetError', -1013],
  ['corrupt', 'CorruptError', -1014],
  ['closed', 'ClosedError', -1015],
  ['runtime', 'RuntimeError', -1016],
  ['broker', 'BrokerError', -1017],
  ['forked', 'ForkedError', -1018],
  ['panic', 'PanicError', -1019],
  ['interrupted', 'InterruptedError', -1020],
  ['unknown', 'UnknownError', -1021]
]

const classes = { KafkaError }
const byKind = new Map()
for (const [kind, name, code] of KINDS) {
  const Kind = { [name]: class extends KafkaError {} }[name]
  Object.defineProperty(Kind.prototype, 'name', { value: name, configurable: true, writable: true })
  Kind.kind = kind
  Kind.code = code
  classes[name] = Kind
  byKind.set(kind, Kind)
}

/** The error that the native half told as an object. */
function fromFacts (facts) {
  const Kind = byKind.get(facts.kind) ?? classes.UnknownError
  return new Kind(facts.message, facts)
}

/** What a call of the native half threw, as users are to see it. */
function lifted (thrown) {
  if (thrown instanceof Error && thrown.message.startsWith('{')) {
    try {
      return fromFacts(JSON.parse(thrown.message))
    } catch {}
  }
  return thrown
}

/** Runs a call of the native half. */
function call (what) {
  try {
    return what()
  } catch (thrown) {
    throw lifted(thrown)
  }
}

module.exports = { classes, KINDS, fromFacts, lifted, call }
