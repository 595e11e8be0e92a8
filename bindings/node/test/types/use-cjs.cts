// Never run: the types as a CommonJS program sees them.
import ottla = require('ottla')
import testing = require('ottla/testing')

export async function use (): Promise<string> {
  const cluster = await testing.Cluster.start()
  const producer = new ottla.Producer({ bootstrapServers: cluster.bootstrapServers })
  return `${(await producer.send('t', 'v')).partition} ${ottla.version}`
}
