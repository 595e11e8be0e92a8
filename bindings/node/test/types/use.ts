// Never run: tsc checks it, strictly, so that the types say what the package does.
import { Readable } from 'node:stream'
import { Admin, Consumer, KafkaError, Producer, TooLargeError, partitionForKey, setLogger, type Batch, type Message, type RecordMetadata } from 'ottla'
import { Cluster } from 'ottla/testing'

export async function use (): Promise<void> {
  await using cluster = await Cluster.start({ 'num.partitions': 3 })
  await using producer = new Producer({
    bootstrapServers: cluster.bootstrapServers,
    lingerMs: 5,
    'max.request.size': 100_000,
    onError: error => { console.error(error.count, error.kind) }
  })
  const metadata: RecordMetadata = await producer.send('t', 'v', { key: Buffer.from('k'), headers: { a: 'b', none: null }, timestamp: new Date(), signal: AbortSignal.timeout(100) })
  const offset: bigint | null = metadata.offset
  const room: boolean = producer.enqueue('t', new Uint8Array(3))
  if (!room) await producer.ready()
  const many: RecordMetadata[] = await producer.sendMany('t', ['a', null, { value: 'b', headers: [['x', null]] }])
  const { pending } = await producer.flush({ timeout: 100 })
  console.log(offset, many.length, pending + 1, producer.metrics()?.requestLatencyMs.p99)
  // @ts-expect-error a value must be bytes or text
  await producer.send('t', { a: 1 })
  // @ts-expect-error a key that the client does not know in camel case
  new Producer({ bootstrapServers: 'x', lingerMsec: 5 }).enqueue('t')

  await using consumer = new Consumer({ bootstrapServers: [cluster.bootstrapServers], topics: ['t'], autoOffsetReset: 'earliest' })
  for await (const message of consumer) {
    const value: Buffer | null = message.value
    const number: number = message.offsetNumber
    console.log(value, number, message.text(), message.headers[0]?.value)
    break
  }
  const polled: Batch | null = await consumer.poll({ maxRecords: 10, timeout: 100 })
  const first: Message | undefined = polled?.at(0)
  for await (const batch of consumer.batches({ maxRecords: 10 })) for (const message of batch) console.log(message.key, first)
  await consumer.seek({ topic: 't', partition: 0 }, 5n)
  await consumer.pause([['t', 0]])
  Readable.from(consumer).destroy()

  await using admin = new Admin({ bootstrapServers: cluster.bootstrapServers })
  const [topic] = await admin.describeTopics(['t'])
  console.log(topic?.partitions[0]?.leader, partitionForKey('k', 3))
  setLogger(({ level, message }) => { console.log(level, message) }, { level: 'debug' })
  try {
    await admin.createTopics([{ name: 't', partitions: 3 }])
  } catch (error) {
    if (error instanceof TooLargeError) console.log(error.persisted === 'possibly')
    if (error instanceof KafkaError) console.log(error.kind === 'unknown_topic', error.retriable)
  }
}
