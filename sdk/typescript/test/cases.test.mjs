// Runs cases.json against the core and against each adapter, over real HTTP.
import assert from 'node:assert/strict';
import test from 'node:test';
import { CASES, DRIVERS, SETUP, World, filled, mint } from './support.mjs';

// The framework's own parser of JSON answers first there.
const OWN_PARSER = { expressAfterJson: [53], fastify: [53] };

for (const [name, start] of Object.entries(DRIVERS)) {
  test(`${name} answers as the table says`, async (t) => {
    for (const entry of CASES.cases) {
      if (OWN_PARSER[name]?.includes(entry.n)) continue;
      await t.test(`case ${entry.n}`, () => run(entry, start));
    }
  });
}

async function run(entry, start) {
  const world = new World();
  const app = await start(world);
  try {
    if (entry.warm) assert.equal((await app.send(await request({ token: 'ok_jwt' }))).status, 200);
    for (const step of entry.steps ?? [entry]) {
      world.now += step.advance ?? 0;
      world.introspection = step.introspection;
      world.jwks = step.jwks ?? ['k1'];
      world.fetches = world.introspections = world.reached = 0;
      const sent = await request(step);
      const repeat = step.repeat ?? 1;
      for (const answer of await Promise.all(Array.from({ length: repeat }, () => app.send(sent)))) check(answer, step);
      for (const count of ['fetches', 'introspections']) if (step[count] !== undefined) assert.equal(world[count], step[count], count);
      const passes = [200, 204].includes(step.status) && !step.metadata;
      assert.equal(world.reached, passes ? repeat : 0, 'requests that reached the application');
    }
  } finally {
    await app.close();
  }
  if (entry.log) assert.ok(world.log.includes(entry.log));
  for (const secret of [await mint('opaque'), SETUP.key]) assert.ok(!world.log.includes(secret));
}

async function request(step) {
  const headers = Object.entries(step.headers ?? {});
  let body = '{}';
  let type = 'application/json';
  if (step.rpc) body = JSON.stringify(step.rpc);
  if (step.body) body = step.body;
  if (step.form) [body, type] = [await withTokens(step.form), 'application/x-www-form-urlencoded'];
  const authorization = step.authorization !== undefined ? step.authorization : step.token ? `Bearer ${await mint(step.token)}` : null;
  for (const value of Array.isArray(authorization) ? authorization : [authorization]) if (value !== null) headers.push(['authorization', await withTokens(value)]);
  if ((step.method ?? 'POST') === 'POST') headers.push(['content-type', type]);
  const query = step.query ? `?${await withTokens(step.query)}` : '';
  return { method: step.method ?? 'POST', target: (step.path ?? '/mcp') + query, headers, body };
}

async function withTokens(text) {
  let result = text;
  for (const [whole, name] of text.matchAll(/\$(\w+)/g)) result = result.replace(whole, await mint(name));
  return result;
}

function check(answer, step) {
  assert.equal(answer.status, step.status, answer.body);
  const challenge = answer.headers['www-authenticate'];
  if (!step.challenge) assert.equal(challenge, undefined);
  else {
    assert.match(challenge, /^Bearer /);
    const expected = filled(CASES.challenges[step.challenge]);
    const found = Object.fromEntries([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    for (const [name, value] of Object.entries(expected)) if (value === '*' && name in found) found[name] = '*';
    assert.deepEqual(found, expected);
  }
  assert.equal('retry-after' in answer.headers, step.retry_after ?? false);
  if (answer.status >= 400) {
    assert.equal(answer.headers['cache-control'], 'no-store');
    assert.equal(typeof JSON.parse(answer.body), 'object');
  }
  if (step.metadata) {
    const document = JSON.parse(answer.body);
    assert.equal(document.resource, SETUP.resource);
    assert.deepEqual(document.authorization_servers, [SETUP.issuer]);
  }
  if (step.rpc_error) assert.equal(JSON.parse(answer.body).error.code, step.rpc_error);
}
