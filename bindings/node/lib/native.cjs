'use strict'
// Finds the native half: beside this package when it was built here, else the package of this platform.

const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { version } = require('../package.json')
const { platform } = require('./platform.cjs')

function load () {
  if (process.env.OTTLA_NATIVE) return require(process.env.OTTLA_NATIVE)
  const name = platform()
  const built = join(__dirname, '..', `ottla.${name}.node`)
  if (existsSync(built)) return require(built)
  try {
    return require(`@ottla/${name}`)
  } catch (cause) {
    throw new Error(
      `ottla has no native code for ${name} here: the package @ottla/${name} is not installed (or cannot be loaded: ${cause.message}). ` +
      'Install without --omit=optional, or build it from the repository with `npm install ./bindings/node`.', { cause })
  }
}

const native = load()
if (native.version() !== version) {
  throw new Error(`the native code of ottla is version ${native.version()}, the package ${version}: install both anew`)
}

module.exports = { native }
