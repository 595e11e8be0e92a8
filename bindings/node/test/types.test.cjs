'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { promisify } = require('node:util')
const { join } = require('node:path')
const { root } = require('./help.cjs')

test('types, their use and the examples pass tsc, strictly', async () => {
  const checked = promisify(execFile)(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.json')])
  await checked.catch(error => assert.fail(error.stdout))
})
