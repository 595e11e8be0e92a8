// Types of `ottla/testing`.

/// <reference types="node" />
/// <reference lib="esnext.disposable" />

import type { ConfigValue } from './index.cjs'

/** A real broker in this process. It keeps no process alive. */
export class Cluster {
  private constructor ()
  /**
   * Starts a broker on a free port. `properties` are keys of Kafka's `server.properties`; its data are in a temporary folder that
   * goes with it, unless `dataDir` says where.
   */
  static start (properties?: Readonly<Record<string, ConfigValue>>, options?: { dataDir?: string }): Promise<Cluster>
  /** What a client takes as `bootstrapServers`. */
  readonly bootstrapServers: string
  /** Has the broker do wrong, as `api=Produce topic=gps error_after=6 times=2`. */
  fault (rule: string): void
  clearFaults (): void
  /** Ends all connections. */
  disconnectAll (): void
  stop (): Promise<void>
  [Symbol.asyncDispose] (): Promise<void>
}
