'use strict'
// What is published, as tarballs: the package, and the package of each platform for which there is a binary.
//
// node dist.cjs FOLDER NAME=FILE...     NAME is one of platforms.json, FILE its stripped addon

const { execFileSync } = require('node:child_process')
const { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join, resolve } = require('node:path')
const platforms = require('./platforms.json')

const here = join(__dirname, '..')
const licence = join(here, '../../LICENSE')
const { scripts, devDependencies, ...shared } = require('../package.json')
const [folder, ...binaries] = process.argv.slice(2)
const stage = mkdtempSync(join(tmpdir(), 'ottla-dist-'))
mkdirSync(folder, { recursive: true })

/** Packs a folder below the stage. */
function pack (name, manifest) {
  const place = join(stage, name)
  writeFileSync(join(place, 'package.json'), JSON.stringify(manifest, null, 2) + '\n')
  copyFileSync(licence, join(place, 'LICENSE'))
  const out = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', resolve(folder)], { cwd: place, encoding: 'utf8' })
  const told = JSON.parse(out)
  const [{ filename, size, unpackedSize }] = Array.isArray(told) ? told : Object.values(told)
  console.log(`${filename}: ${Math.round(size / 1000)} kB, ${Math.round(unpackedSize / 1000)} kB unpacked`)
}

try {
  mkdirSync(join(stage, 'ottla'))
  cpSync(join(here, 'lib'), join(stage, 'ottla/lib'), { recursive: true })
  copyFileSync(join(here, 'README.md'), join(stage, 'ottla/README.md'))
  // No scripts: npm runs nothing at an installation.
  const optionalDependencies = Object.fromEntries(platforms.map(({ name }) => [`@ottla/${name}`, shared.version]))
  pack('ottla', { ...shared, optionalDependencies })

  for (const binary of binaries) {
    const [name, file] = binary.split('=')
    const platform = platforms.find(platform => platform.name === name)
    if (!platform || !existsSync(file)) throw new Error(`${binary}: no such platform, or no such file`)
    mkdirSync(join(stage, name))
    const main = `ottla.${name}.node`
    copyFileSync(file, join(stage, name, main))
    const tested = platform.tested ? 'Built and tested.' : 'Built, and not tested on this platform.'
    writeFileSync(join(stage, name, 'README.md'), `# @ottla/${name}\n\nThe native half of the npm package \`ottla\` for ${platform.target}. ${tested}\n`)
    pack(name, {
      name: `@ottla/${name}`,
      version: shared.version,
      description: `The native half of ottla for ${platform.target}. ${tested}`,
      license: shared.license,
      engines: shared.engines,
      os: [platform.os],
      cpu: [platform.cpu],
      ...(platform.libc && { libc: [platform.libc] }),
      main,
      files: [main]
    })
  }
} finally {
  rmSync(stage, { recursive: true, force: true })
}
