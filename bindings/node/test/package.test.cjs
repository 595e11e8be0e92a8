'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { native } = require('../lib/native.cjs')
const { run, root } = require('./help.cjs')

/** The names that a file of types declares as values. */
function declared (file) {
  const text = readFileSync(join(root, 'lib', file), 'utf8')
  return [...text.matchAll(/^export (?:declare )?(?:abstract )?(?:class|const|function) (\w+)/gm)].map(([, name]) => name)
}

/** The members that a class has in a file of types. */
function members (file, name) {
  const text = readFileSync(join(root, 'lib', file), 'utf8')
  const body = text.slice(text.indexOf(`export class ${name} `)).split('\n}')[0]
  return [...body.matchAll(/^ {2}(?:static )?(?:readonly )?(\w+)\??(?: \(|:)/gm)].map(([, member]) => member).filter(member => !['constructor', 'private'].includes(member))
}

test('the types name exactly what the package exports', async () => {
  assert.deepEqual(declared('index.d.cts').sort(), Object.keys(require('ottla')).sort())
  assert.deepEqual(declared('testing.d.cts').sort(), Object.keys(require('ottla/testing')).sort())
  const es = await import('ottla')
  const names = Object.keys(es).filter(name => name !== 'default' && name !== 'module.exports')
  assert.deepEqual(names.sort(), Object.keys(require('ottla')).sort())
  assert.equal(es.Producer, require('ottla').Producer)
})

test('the types name exactly the members that classes have', () => {
  const ottla = { ...require('ottla'), ...require('ottla/testing') }
  for (const [file, name] of [['index.d.cts', 'Producer'], ['index.d.cts', 'Consumer'], ['index.d.cts', 'Admin'], ['index.d.cts', 'RecordMetadata'], ['index.d.cts', 'Message'], ['index.d.cts', 'Batch'], ['testing.d.cts', 'Cluster']]) {
    const own = [...Object.getOwnPropertyNames(ottla[name].prototype), ...Object.getOwnPropertyNames(ottla[name])]
    const public_ = own.filter(member => !['constructor', 'length', 'name', 'prototype', 'finish'].includes(member))
    if (name === 'Batch') public_.push('length')
    assert.deepEqual([...new Set(members(file, name))].sort(), [...new Set(public_)].sort(), name)
  }
})

test('every function of the native half is used by the package', () => {
  const text = ['index', 'producer', 'consumer', 'admin', 'log', 'testing', 'native'].map(name => readFileSync(join(root, 'lib', `${name}.cjs`), 'utf8')).join('\n')
  const unused = []
  for (const [name, value] of Object.entries(native)) {
    if (name !== 'kinds' && !text.includes(name)) unused.push(name)
    for (const member of Object.getOwnPropertyNames(value.prototype ?? {})) if (member !== 'constructor' && !text.includes(member)) unused.push(`${name}.${member}`)
  }
  assert.deepEqual(unused, [])
})

test('the package can be imported and required', async () => {
  const imported = await run("import { Producer, version } from 'ottla'; import { Cluster } from 'ottla/testing'; console.log(typeof Producer, typeof Cluster, version)", { module: true })
  const required = await run("console.log(typeof P.Producer, typeof require('ottla/testing').Cluster, P.version)")
  assert.equal(imported.stdout, `function function ${require('../package.json').version}\n`, imported.stderr)
  assert.equal(required.stdout, imported.stdout)
})

test('what is published has no scripts that run at an installation', () => {
  const { scripts } = require('../package.json')
  for (const name of ['install', 'preinstall', 'postinstall']) assert.equal(scripts[name], undefined)
})
