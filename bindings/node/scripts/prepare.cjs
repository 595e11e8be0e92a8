'use strict'
// Builds the native half with cargo: on `npm install` in this folder, and on `npm install <path of this folder>` from elsewhere.
// Nobody who installs the published package runs this: it has no scripts. OTTLA_CARGO_PROFILE is a profile other than release,
// OTTLA_CARGO_ARGUMENTS are more words for `cargo build`.

const { execFileSync } = require('node:child_process')
const { copyFileSync, existsSync, renameSync } = require('node:fs')
const { join } = require('node:path')
const { platform } = require('../lib/platform.cjs')

const here = join(__dirname, '..')

/** The file that cargo has built for this machine, or for `target`. */
function build (target) {
  const profile = process.env.OTTLA_CARGO_PROFILE || 'release'
  const words = ['build', '--profile', profile, '--locked', '--package', 'ottla-node', '--message-format=json-render-diagnostics']
  words.push(...(process.env.OTTLA_CARGO_ARGUMENTS || '').split(' ').filter(Boolean))
  if (target) words.push('--target', target)
  const out = execFileSync('cargo', words, { cwd: here, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28, encoding: 'utf8' })
  const artifacts = out.split('\n').filter(Boolean).map(line => JSON.parse(line))
    .filter(message => message.reason === 'compiler-artifact' && message.target.name === 'ottla_node' && message.target.kind.includes('cdylib'))
  return artifacts.flatMap(message => message.filenames).find(file => /\.(so|dylib|dll)$/.test(file))
}

function prepare () {
  if (process.env.OTTLA_SKIP_BUILD || !existsSync(join(here, 'Cargo.toml'))) return
  const library = build()
  const place = join(here, `ottla.${platform()}.node`)
  // What a running process has loaded must not be overwritten in place.
  copyFileSync(library, place + '.new')
  renameSync(place + '.new', place)
  console.log(`built ${place}`)
}

if (require.main === module) prepare()
module.exports = { build }
