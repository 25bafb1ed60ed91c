// Reads what the suite's client said, and says what passed: a line a test, with its kind and its name.
//
// usage: node judge.mjs SUITE RESULT OUT
//
// The suite's own rule on dependencies is applied: what hangs on a test that does not pass says nothing, and has not
// passed. The suite's tests for surrogates (Surrogate-Control, which this proxy does not claim to know) are left out.

import { readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { resolve } from 'node:path'

const [suite, result, out] = process.argv.slice(2)
const { default: groups } = await import(pathToFileURL(resolve(suite, 'tests/index.mjs')))
const results = JSON.parse(readFileSync(result, 'utf8'))

const tests = new Map()
for (const group of groups) {
  if (group.id === 'surrogate-control') continue
  for (const test of group.tests) if (!test.browser_only) tests.set(test.id, test)
}
const passes = id => results[id] === true && (tests.get(id)?.depends_on ?? []).every(passes)
const kind = test => test.kind ?? 'required'

const lines = kinds => [...tests.values()].filter(test => kinds(test))
const passed = lines(test => passes(test.id)).map(test => `${kind(test)} ${test.id}`)
writeFileSync(`${out}/passed`, passed.sort().join('\n') + '\n')
const why = test => {
  const said = results[test.id]
  if (said === undefined) return 'was not run'
  if (said !== true) return said.join(': ')
  return `hangs on ${test.depends_on.filter(id => !passes(id)).join(', ')}`
}
const failed = lines(test => !passes(test.id)).map(test => `${kind(test)} ${test.id}: ${why(test)}`)
writeFileSync(`${out}/failed`, failed.sort().join('\n') + '\n')
for (const each of ['required', 'optimal', 'check']) {
  const all = lines(test => kind(test) === each)
  console.log(`${each}: ${all.filter(test => passes(test.id)).length} of ${all.length}`)
}
