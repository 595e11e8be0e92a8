// Types of the package `ottla`, written by hand; test/types.test.cjs compares them with what the package exports.

/// <reference types="node" />
/// <reference lib="esnext.disposable" />

/** The library's version. */
export const version: string

// ---------------------------------------------------------------- options

export type ConfigValue = string | number | bigint | boolean | readonly string[] | undefined

/**
 * Kafka's own keys (`'linger.ms'`), or the same in camel case (`lingerMs`). Any key that the client knows may be given; an
 * unknown one is an error that names the nearest.
 */
export interface ClientConfig {
  /** `host:port`, several of them in a list or separated by commas. */
  bootstrapServers?: string | readonly string[]
  clientId?: string
  /** Default 30,000. */
  requestTimeoutMs?: number
  /** Default 300,000. */
  metadataMaxAgeMs?: number
  securityProtocol?: 'PLAINTEXT' | 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL'
  saslMechanism?: string
  saslJaasConfig?: string
  [key: `${string}.${string}`]: ConfigValue
}

export interface ProducerConfig extends ClientConfig {
  /** Default `all`. */
  acks?: 'all' | '0' | '1' | '-1' | 0 | 1 | -1
  /** How long a record waits for company in milliseconds; default 5. */
  lingerMs?: number
  /** Bytes of a batch; default 16,384. */
  batchSize?: number
  /** Bytes of records that are not acknowledged; default 33,554,432. */
  bufferMemory?: number
  compressionType?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'
  /** Default true. */
  enableIdempotence?: boolean
  /** When a record fails at the latest, in milliseconds; default 120,000. */
  deliveryTimeoutMs?: number
  /** How long a record waits for room or for its topic's metadata, in milliseconds; default 60,000. */
  maxBlockMs?: number
  maxRequestSize?: number
  maxInFlightRequestsPerConnection?: number
  retries?: number
  partitioner?: string
  transactionalId?: string
  /** Told of records without a receipt (`enqueue`) that failed. Without it, the next `flush()` or `close()` rejects. */
  onError?: (error: KafkaError & { count: number }) => void
}

export interface ConsumerConfig extends ClientConfig {
  /** The partitions to read. */
  assign?: readonly TopicPartitionLike[]
  /** Topics to read: as a member of the group `groupId`, or all their partitions without one. */
  topics?: readonly string[]
  /** All topics whose whole name matches, as a member of a group. */
  pattern?: string | RegExp
  /** Are told of partitions that come and go, within your own calls; partitions go to others when `onRevoked` has settled. */
  onAssigned?: (partitions: TopicPartition[], consumer: Consumer) => void | Promise<void>
  onRevoked?: (partitions: TopicPartition[], consumer: Consumer) => void | Promise<void>
  /** Default: `onRevoked`. */
  onLost?: (partitions: TopicPartition[], consumer: Consumer) => void | Promise<void>
  onEvent?: (event: ConsumerEvent, consumer: Consumer) => void | Promise<void>
  /** Where to begin, or what to do outside the log; default `latest`. */
  autoOffsetReset?: 'earliest' | 'latest' | 'none' | (string & {})
  isolationLevel?: 'read_uncommitted' | 'read_committed'
  fetchMinBytes?: number
  fetchMaxBytes?: number
  fetchMaxWaitMs?: number
  maxPartitionFetchBytes?: number
  /** Messages of one poll; default 500. */
  maxPollRecords?: number
  groupId?: string
  groupInstanceId?: string
  groupProtocol?: 'classic' | 'consumer' | (string & {})
  partitionAssignmentStrategy?: string | readonly string[]
  sessionTimeoutMs?: number
  heartbeatIntervalMs?: number
  maxPollIntervalMs?: number
  /** Whether what is processed is committed by itself; default true. */
  enableAutoCommit?: boolean
  autoCommitIntervalMs?: number
  /** Whether asking for the next message says that those before it are processed; default true. */
  enableAutoOffsetStore?: boolean
}

/** What may be waited for with a signal: aborting it rejects at once, what was asked for goes on. */
export interface Abortable {
  signal?: AbortSignal
}

// ---------------------------------------------------------------- records

/** A key, a value, or the value of a header: bytes, text (as UTF-8), or null. */
export type Bytes = string | NodeJS.ArrayBufferView | ArrayBuffer | null

export type HeadersLike =
  | Readonly<Record<string, Bytes | undefined>>
  | ReadonlyMap<string, Bytes | undefined>
  | ReadonlyArray<readonly [key: string, value: Bytes | undefined] | { readonly key: string, readonly value?: Bytes }>

export interface SendOptions {
  key?: Bytes
  /** An object, a Map, or, where order or repetition matters, a list. */
  headers?: HeadersLike
  /** Default: chosen by key, or so that batches fill. */
  partition?: number | null
  /** Default: now. Milliseconds since 1970, or a Date. */
  timestamp?: number | bigint | Date | null
}

export interface ProducerRecord extends SendOptions {
  value?: Bytes
}

export interface TopicPartition {
  topic: string
  partition: number
}

export type TopicPartitionLike = Readonly<TopicPartition> | readonly [topic: string, partition: number]

/** Where a record was written. */
export class RecordMetadata {
  private constructor ()
  readonly topic: string
  readonly partition: number
  /** null when the broker does not tell (acks=0). */
  readonly offset: bigint | null
  readonly offsetNumber: number | null
  /** Milliseconds since 1970. */
  readonly timestamp: number
  toJSON (): { topic: string, partition: number, offset: string | null, timestamp: number }
}

// ---------------------------------------------------------------- producer

/** What became of records. */
export interface Settled {
  delivered: number
  /** Failed, and certainly not in the log. */
  failed: number
  /** Failed, and possibly in the log. */
  unknown: number
}

export interface Flushed extends Settled {
  /** What the time was too short for. */
  pending: number
}

/** Sends records. It connects by itself; it keeps the process alive while records with a receipt are on their way. */
export class Producer {
  constructor (options: ProducerConfig)
  /**
   * Sends a record. Resolves when it is acknowledged, rejects with a `KafkaError` when it has failed (`persisted` says whether it
   * may be in the log). A signal that is aborted rejects at once; the record may still be delivered.
   */
  send (topic: string, value?: Bytes, options?: SendOptions & Abortable): Promise<RecordMetadata>
  /**
   * Sends a record that nobody waits for. False: the buffer is full, wait for `ready()`; the record is accepted all the same.
   * Throws for a record that cannot be sent, and when `false` was ignored for long (`QueueFullError`).
   */
  enqueue (topic: string, value?: Bytes, options?: SendOptions): boolean
  /** Resolves when there is room for more. */
  ready (options?: Abortable): Promise<void>
  /** Sends records together: one promise for all. If some fail it rejects, when all are settled, with the first error. */
  sendMany (topic: string, records: ReadonlyArray<Bytes | ProducerRecord>, options?: Abortable): Promise<RecordMetadata[]>
  /** Sends everything without lingering and waits for it, at most `timeout` milliseconds. */
  flush (options?: { timeout?: number } & Abortable): Promise<Flushed>
  /** Resolves when it has connected. Sending need not wait for it. */
  connected (options?: Abortable): Promise<void>
  /** Delivers what is queued and ends, at the latest after `timeout` milliseconds (default 30,000). Counts all records since the start. */
  close (options?: { timeout?: number }): Promise<Settled>
  /** Totals and distributions since the start; null before it has connected. */
  metrics (): ProducerMetrics | null
  /** The metrics in Prometheus' text format. */
  prometheus (): string
  /** How many records were accepted and are not settled yet. */
  unacknowledged (): number
  [Symbol.asyncDispose] (): Promise<void>
}

export interface Distribution {
  count: number
  sum: number
  mean: number
  max: number
  p50: number
  p90: number
  p99: number
}

export interface ProducerMetrics {
  clientId: string
  recordsDelivered: number
  recordsFailed: number
  recordsUnknown: number
  recordsSent: number
  recordsRetried: number
  batchesSent: number
  batchesRetried: number
  batchesSplit: number
  bytesSent: number
  requestsSent: number
  requestsFailed: number
  requestsInFlight: number
  throttleTimeMs: number
  bufferTotalBytes: number
  bufferAvailableBytes: number
  bufferWaits: number
  bufferExhausted: number
  bufferWaitTimeMs: number
  recordsPerBatch: Distribution
  batchBytes: Distribution
  compressionRatio: Distribution
  queueTimeMs: Distribution
  requestLatencyMs: Distribution
  attempts: Distribution
  topics: Array<{ topic: string, recordsDelivered: number, recordsFailed: number, recordsUnknown: number, recordsRetried: number, batchesSent: number, bytesSent: number }>
  brokers: Array<{ nodeId: number, requestsSent: number, requestsFailed: number, requestsInFlight: number, batchesSent: number, bytesSent: number, requestTimeMs: number, throttleTimeMs: number }>
}

// ---------------------------------------------------------------- consumer

export interface Header {
  key: string
  value: Buffer | null
}

/** A record that was read. Its bytes are views of the memory of the whole batch: copy what you keep for long. */
export class Message {
  private constructor ()
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly offsetNumber: number
  /** Milliseconds since 1970; -1 for none. */
  readonly timestamp: number
  /** Whose clock the timestamp is: the producer's or the broker's. */
  readonly timestampType: 'create' | 'append'
  readonly leaderEpoch: number
  readonly key: Buffer | null
  /** null is a tombstone on a compacted topic. */
  readonly value: Buffer | null
  readonly headers: Header[]
  /** The value of the last header of this name. */
  header (name: string): Buffer | null | undefined
  /** The value as text. */
  text (encoding?: BufferEncoding): string | null
  keyText (encoding?: BufferEncoding): string | null
}

/** Messages that came together, in the order of their offsets within each partition. */
export class Batch implements Iterable<Message> {
  private constructor ()
  readonly length: number
  readonly partitions: TopicPartition[]
  at (index: number): Message | undefined
  [Symbol.iterator] (): IterableIterator<Message>
}

export interface PartitionOffset extends TopicPartition {
  offset: bigint
}

export interface TimeOffset extends TopicPartition {
  /** null when no record is that young. */
  offset: bigint | null
  timestamp: number | null
  leaderEpoch: number | null
}

/** An offset to commit: that of the next record to read. */
export interface OffsetToCommit extends TopicPartition {
  offset: bigint | number
  /** Any words of yours. */
  metadata?: string
  leaderEpoch?: number | null
}

export interface CommittedOffset extends TopicPartition {
  offset: bigint | null
  metadata: string | null
  leaderEpoch: number | null
}

/** Messages that are processed, or offsets of the next ones. */
export type Processed = Message | Batch | readonly OffsetToCommit[]

/** How far a partition is, and why it does not move if it does not. */
export interface PartitionProgress extends TopicPartition {
  position: bigint | null
  committed: bigint | null
  lag: number | null
  /** `fetching`, `buffered`, `at_end`, `paused`, `awaits_leader`, `revoked_awaits_application`, ... */
  state: string
  error: string | null
  sinceMs: number
}

export interface ConsumerHealth {
  group: {
    groupId: string
    phase: string
    sinceMs: number
    memberId: string
    generation: number | null
    coordinator: number | null
    trouble: string | null
    lastContactMs: number | null
    timeToPollMs: number | null
  } | null
  partitions: PartitionProgress[]
  bufferedBytes: number
  metadataError: string | null
}

/** Something that happened to a consumer, beside partitions that come and go. */
export interface ConsumerEvent {
  kind: 'rebalancing' | 'commitFailed' | 'stalled'
  partitions: TopicPartition[]
  error: KafkaError | null
  reason: string | null
  progress: PartitionProgress | null
}

export interface ConsumerGroupMetadata {
  groupId: string
  /** -1 while it is no member. */
  generationId: number
  memberId: string
  groupInstanceId: string | null
}

/** What closing did. */
export interface ConsumerClosed {
  committed: Array<TopicPartition & { offset: bigint }>
  /** Partitions of which messages were handed over that are not known to be processed, with the offset after the last one. */
  unprocessed: Array<TopicPartition & { offset: bigint }>
  /** Whether the group was left in time. */
  finished: boolean
  error: KafkaError | null
}

/** Reads partitions, its own or those of its group. In a group a message is processed when the next one is asked for. It keeps the process alive while somebody waits for messages. */
export class Consumer implements AsyncIterable<Message> {
  constructor (options: ConsumerConfig)
  /** Messages one by one, until it is closed. Leaving the loop leaves it open; another loop goes on. */
  [Symbol.asyncIterator] (): AsyncIterableIterator<Message>
  /** Batches of at most `maxRecords` messages, until it is closed. */
  batches (options?: { maxRecords?: number } & Abortable): AsyncIterableIterator<Batch>
  /** The next messages; an empty batch after `timeout` milliseconds without any; null when it is closed. */
  poll (options?: { maxRecords?: number, timeout?: number } & Abortable): Promise<Batch | null>
  /** Reads these topics as a member of the group instead of those before, or all that match. */
  subscribe (what: readonly string[] | { pattern: string | RegExp }): Promise<void>
  /** Commits what is processed, lets go of all partitions and leaves the group. */
  unsubscribe (options?: Abortable): Promise<void>
  subscription (): string[]
  /**
   * Commits all messages that were handed over (or what was stored, with `enableAutoOffsetStore: false`), those of a batch, up to a
   * message, or offsets. Rejects with a FencedError when the group went on without this consumer: nothing is overwritten then.
   */
  commit (what?: Processed | null, options?: Abortable): Promise<void>
  /** Begins to commit, and does not wait; `onEvent` hears of a failure. */
  commitAsync (): void
  /** Says what is processed, for the next commit. */
  storeOffsets (what: Processed): void
  committed (partitions: readonly TopicPartitionLike[], options?: Abortable): Promise<CommittedOffset[]>
  groupMetadata (): ConsumerGroupMetadata
  enforceRebalance (reason?: string): void
  /** The next messages will be asked for within so many milliseconds, whatever `maxPollIntervalMs` is. */
  extendPoll (within: number): void
  progress (): PartitionProgress[]
  health (): ConsumerHealth
  /** Reads exactly these partitions from now on; those that were read before keep their position. */
  assign (partitions: readonly TopicPartitionLike[]): Promise<void>
  assignment (): TopicPartition[]
  seek (partition: TopicPartitionLike, offset: bigint | number): Promise<void>
  /** Default: all partitions. */
  seekToBeginning (partitions?: TopicPartitionLike | readonly TopicPartitionLike[]): Promise<void>
  seekToEnd (partitions?: TopicPartitionLike | readonly TopicPartitionLike[]): Promise<void>
  /** Goes on at the first record that is not older. */
  seekToTimestamp (partition: TopicPartitionLike, timestamp: Date | number): Promise<void>
  /** Hands over nothing more of these partitions until `resume`. Nothing is lost. */
  pause (partitions: readonly TopicPartitionLike[]): Promise<void>
  resume (partitions: readonly TopicPartitionLike[]): Promise<void>
  paused (): TopicPartition[]
  /** The offset of the next message that is handed over. */
  position (partition: TopicPartitionLike, options?: Abortable): Promise<bigint>
  /** How many records are ahead, as of the last fetch; null before it. */
  lag (partition: TopicPartitionLike): number | null
  beginningOffsets (partitions: readonly TopicPartitionLike[], options?: Abortable): Promise<PartitionOffset[]>
  endOffsets (partitions: readonly TopicPartitionLike[], options?: Abortable): Promise<PartitionOffset[]>
  offsetsForTimes (times: ReadonlyArray<TopicPartition & { timestamp: Date | number }>, options?: Abortable): Promise<TimeOffset[]>
  partitionsFor (topic: string, options?: Abortable): Promise<TopicPartition[]>
  /** Resolves when it has connected and knows its partitions. Reading need not wait for it. */
  connected (options?: Abortable): Promise<void>
  /** Ends it: loops end. In a group it calls `onRevoked`, commits what is processed and leaves, by `timeout` ms (10 000). */
  close (options?: { timeout?: number }): Promise<ConsumerClosed>
  [Symbol.asyncDispose] (): Promise<void>
}

// ---------------------------------------------------------------- admin

export interface NewTopic {
  name: string
  /** Default: the broker's. */
  partitions?: number
  replicationFactor?: number
  /** Brokers of each partition, in place of the two above. */
  assignments?: number[][]
  configs?: Record<string, string | number | boolean>
}

export interface CreatedTopic {
  name: string
  id: string
  partitions: number | null
  replicationFactor: number | null
}

export interface TopicDescription {
  name: string
  id: string
  internal: boolean
  partitions: Array<{
    partition: number
    leader: number | null
    leaderEpoch: number
    replicas: number[]
    inSyncReplicas: number[]
    offlineReplicas: number[]
  }>
}

/** A group, in the broker's words. */
export interface GroupListing {
  groupId: string
  groupType: string
  protocolType: string
  state: string
}

export interface ConsumerGroupDescription {
  groupId: string
  groupType: 'classic' | 'consumer' | (string & {})
  state: string
  protocolType: string
  assignor: string
  coordinator: number | null
  groupEpoch: number | null
  assignmentEpoch: number | null
  members: Array<{
    memberId: string
    instanceId: string | null
    clientId: string
    host: string
    rackId: string | null
    memberEpoch: number | null
    subscription: string[]
    subscriptionPattern: string | null
    assignment: TopicPartition[]
    targetAssignment: TopicPartition[] | null
  }>
}

/** Topics and groups. It connects with the first call. Calls about several things reject with the first error, whose `results` tells of each. */
export class Admin {
  constructor (options: ClientConfig)
  connected (options?: Abortable): Promise<void>
  createTopics (topics: ReadonlyArray<string | NewTopic>, options?: { validateOnly?: boolean } & Abortable): Promise<CreatedTopic[]>
  deleteTopics (names: readonly string[], options?: Abortable): Promise<Array<{ name: string }>>
  listGroups (options?: { states?: readonly string[], types?: readonly string[] } & Abortable): Promise<GroupListing[]>
  describeConsumerGroups (groups: readonly string[], options?: Abortable): Promise<Array<{ name: string } & ConsumerGroupDescription>>
  listConsumerGroupOffsets (group: string, options?: { requireStable?: boolean } & Abortable): Promise<CommittedOffset[]>
  /** Commits offsets on behalf of a group that has no members. */
  alterConsumerGroupOffsets (group: string, offsets: readonly OffsetToCommit[], options?: Abortable): Promise<TopicPartition[]>
  deleteConsumerGroupOffsets (group: string, partitions: readonly TopicPartitionLike[], options?: Abortable): Promise<TopicPartition[]>
  deleteConsumerGroups (groups: readonly string[], options?: Abortable): Promise<Array<{ name: string }>>
  /** Gives topics more partitions: so many in total. */
  createPartitions (totals: ReadonlyArray<{ name: string, total: number }>, options?: Abortable): Promise<Array<{ name: string }>>
  listTopics (options?: Abortable): Promise<Array<{ name: string, id: string, internal: boolean }>>
  describeTopics (names: readonly string[], options?: Abortable): Promise<TopicDescription[]>
  describeCluster (options?: Abortable): Promise<{
    clusterId: string
    controller: number | null
    brokers: Array<{ id: number, host: string, port: number, rack: string | null }>
  }>
  close (): Promise<void>
  [Symbol.asyncDispose] (): Promise<void>
}

// ---------------------------------------------------------------- more

export type LogLevel = 'off' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

export interface LogLine {
  level: LogLevel
  target: string
  message: string
  time: Date
}

/** Has `logger` called with each line of this level (default `info`) and graver; null ends it. One logger for the process. */
export function setLogger (logger: ((line: LogLine) => void) | null, options?: { level?: LogLevel }): void

/** The partition that a built-in partitioner (default: Java's) chooses for a key; null if the key does not decide. */
export function partitionForKey (key: Bytes | undefined, partitions: number, options?: { partitioner?: string }): number | null

// ---------------------------------------------------------------- errors

export type ErrorKind =
  | 'config' | 'argument' | 'connect' | 'disconnected' | 'timeout' | 'protocol' | 'unsupported' | 'unknown_topic'
  | 'authorization' | 'authentication' | 'fenced' | 'too_large' | 'queue_full' | 'offset' | 'corrupt' | 'closed'
  | 'runtime' | 'broker' | 'forked' | 'panic' | 'interrupted' | 'unknown'

/** The base of all errors. */
export class KafkaError extends Error {
  constructor (message: string, facts?: Partial<Pick<KafkaError, 'kind' | 'code' | 'codeName' | 'retriable' | 'persisted'>>)
  readonly kind: ErrorKind
  /** The broker's own code if a broker said it, else the number of the kind (-1000 and below). */
  readonly code: number
  /** Kafka's name for the broker's code, as `NOT_LEADER_OR_FOLLOWER`. */
  readonly codeName: string | null
  /** Whether the same call may succeed later. */
  readonly retriable: boolean
  /** Whether the record may be in the log. */
  readonly persisted: 'no' | 'possibly' | 'yes'
  readonly topic: string | null
  readonly partition: number | null
  readonly offset: bigint | null
  /** How often a record was tried. */
  readonly attempts: number
  /** Of `sendMany` and of the admin client: what became of each. */
  readonly results?: unknown[]
}
/** A key of the configuration is unknown, has a value that does not fit, or contradicts another. */
export class ConfigError extends KafkaError {}
/** An argument of a call does not fit. */
export class ArgumentError extends KafkaError {}
/** No connection to a broker could be made. */
export class ConnectError extends KafkaError {}
/** A connection was lost before the answer came. */
export class DisconnectedError extends KafkaError {}
/** The time for it ran out. */
export class TimeoutError extends KafkaError {}
/** The other side does not speak Kafka's protocol, or broke it. */
export class ProtocolError extends KafkaError {}
/** The broker supports no version of the request that this client speaks. */
export class UnsupportedError extends KafkaError {}
/** The topic or partition does not exist. */
export class UnknownTopicError extends KafkaError {}
/** The principal may not do this. */
export class AuthorizationError extends KafkaError {}
/** The broker did not accept who we say we are, or we do not accept who it says it is. */
export class AuthenticationError extends KafkaError {}
/** Another instance took this one's place. */
export class FencedError extends KafkaError {}
/** A record or request is larger than it may be. */
export class TooLargeError extends KafkaError {}
/** The buffer is full and the call was not to wait. */
export class QueueFullError extends KafkaError {}
/** A position lies outside the log, or there is neither a position nor a policy to find one. */
export class OffsetError extends KafkaError {}
/** Records failed their checksum or cannot be read. */
export class CorruptError extends KafkaError {}
/** The client was closed, or is closing. */
export class ClosedError extends KafkaError {}
/** The client's threads cannot be started, or a blocking call was made where it must not wait. */
export class RuntimeError extends KafkaError {}
/** Any other error code of a broker. */
export class BrokerError extends KafkaError {}
/** The client was made before a fork, in the parent process: make a new one in the child. */
export class ForkedError extends KafkaError {}
/** A mistake inside the library, caught at the border. The client may be used on, but please report it. */
export class PanicError extends KafkaError {}
/** The wait was ended from elsewhere. */
export class InterruptedError extends KafkaError {}
/** An error of a kind that this version of the binding does not know. */
export class UnknownError extends KafkaError {}
