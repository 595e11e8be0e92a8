'use strict'
// The examples, run as a user would run them, with the real tracks.
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { promisify } = require('node:util')
const { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { cluster, root } = require('./help.cjs')

const start = promisify(execFile)

/** A folder with the examples, in which `ottla` can be imported. */
function project (t) {
  const folder = mkdtempSync(join(tmpdir(), 'ottla-examples-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  cpSync(join(root, '../../examples/node'), folder, { recursive: true, filter: path => !path.includes('node_modules') })
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules/ottla'))
  return folder
}

test('the examples send real tracks and read them back', async t => {
  const folder = project(t)
  const { bootstrapServers } = await cluster()
  const points = join(root, '../../examples/data/gpsraw.jsonl')
  const produced = await start(process.execPath, ['produce.mjs', bootstrapServers, points], { cwd: folder })
  assert.equal(produced.stdout, '4928 points delivered, 0 failed, 0 in doubt\n')
  const consumed = await start(process.execPath, ['consume.cjs', bootstrapServers], { cwd: folder })
  assert.equal(consumed.stdout, `cerknica-lake          296   13.67 km
loisach-ride          3540   18.19 km
los-gatos-stroll       988   12.82 km
visnjan-by-car         104    2.73 km
`)
  const shared = await start(process.execPath, ['group.mjs', bootstrapServers], { cwd: folder })
  assert.equal(shared.stdout, '4928 points; left in time: true\n')
  const worked = await start(process.execPath, ['parallel.mjs', bootstrapServers], { cwd: folder })
  assert.equal(worked.stdout, '4928 points of 4 tracks; left in time: true\n')
  for (const more of [4928, 0]) {
    const kept = await start(process.execPath, ['manual.mjs', bootstrapServers, 'state.json'], { cwd: folder })
    assert.equal(kept.stdout, `${more} points more, 4928 in all\n`)
  }
})

test('the example of a test passes', async t => {
  const environment = { ...process.env }
  delete environment.NODE_TEST_CONTEXT // else it reports to us in place of to its own exit code
  await start(process.execPath, ['--test', 'your-test.test.mjs'], { cwd: project(t), env: environment })
})
