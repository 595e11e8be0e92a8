'use strict'
// Questions that take time, and their answers.

const { fromFacts, lifted } = require('./errors.cjs')
const { hold, release } = require('./life.cjs')

class Post {
  #client
  #waiting = new Map()
  #next = 1

  /** `client` is whose answers come here. */
  constructor (client) {
    this.#client = client
  }

  /**
   * Calls `start` with a number, under which the native half will answer. The process stays alive meanwhile unless `quiet`.
   * A signal that is aborted rejects at once; what was asked for goes on.
   */
  ask (start, { signal, quiet = false } = {}) {
    if (signal?.aborted) return Promise.reject(signal.reason)
    const id = this.#next
    this.#next = id === 0xffffffff ? 1 : id + 1
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, quiet })
      if (!quiet) hold(this.#client)
      try {
        start(id)
      } catch (thrown) {
        this.#take(id)
        reject(lifted(thrown))
      }
    })
    return abortable(answer, signal)
  }

  /** Hands out letters of the native half. */
  deliver (letters) {
    for (const letter of letters) {
      const { id, answer, error } = JSON.parse(letter)
      const waiting = this.#take(id)
      if (!waiting) continue
      if (error) waiting.reject(fromFacts(error))
      else waiting.resolve(answer)
    }
  }

  #take (id) {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (waiting && !waiting.quiet) release(this.#client)
    return waiting
  }
}

/** `promise`, but rejected as soon as `signal` is aborted. */
function abortable (promise, signal) {
  if (!signal) return promise
  if (signal.aborted) {
    promise.catch(() => {})
    return Promise.reject(signal.reason)
  }
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    const over = () => signal.removeEventListener('abort', abort)
    promise.then(value => { over(); resolve(value) }, error => { over(); reject(error) })
  })
}

module.exports = { Post, abortable }
