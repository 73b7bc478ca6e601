// Three instances behind nginx on one Redis, real clients in front and a real authorization server behind. Instances are killed in
// turn, Redis is killed once, the keys are rotated, and nobody may notice more than that a request was lost in flight.
// GATEWAY_LONG=1: 200 sign-ins instead of 12, and an upstream that takes its time, so that more is in flight.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { USER, PASSWORD, ROOT, assert, equal, freePort, run, sleep } from '../lib/kit.mjs';
import { authorizeUrl, form, getJson, login, token } from '../lib/oauth.mjs';
import { callSimple } from '../lib/mcp.mjs';
import { Redis, Site } from '../lib/site.mjs';
import { causes, counted, lostUnnamed, twicePerKill, upstream, without } from '../lib/judge.mjs';
import { Steady } from '../clients/steady.mjs';

const long = process.env.GATEWAY_LONG === '1';
const size = long ? { people: 200, at_once: 10, rounds: 4, away: 10_000, pythons: 4, pause: 3000, kills: 100 } : { people: 12, at_once: 4, rounds: 4, away: 3000, pythons: 1, pause: 1500, kills: 6 };

export default async function replicas(stage) {
  const redis = await Redis.start(stage);
  await instances(stage, { count: 3, store: redis.store, redis, first: (all) => stage.check('32 refreshes at once ask the upstream once, and all 32 pairs work', () => together(all)) });
}

// The whole story with any store that several instances share. `redis` is what can be taken away; `first` is what else is to be seen,
// before anything dies; `pinned` says that the upstream knows the gateway beforehand.
export async function instances(stage, { count, store, redis, first, pinned }) {
  const root = await freePort();
  const as = await stage.authorizationServer({ GATEWAY_REDIRECTS: `http://127.0.0.1:${root}/upstream/callback` });
  const up = await stage.mcpServer({ as });
  const client = pinned ? 'client_id = "gateway"\nclient_secret = "gateway-secret-for-tests-only"' : '';
  const site = await Site.start(stage, { root, count, store, service: `url = "${up.mcp}"\n${client}` });
  const outages = [];
  const raw = await stage.must('a sign-in, a call and a refresh by hand, over all instances', async () => {
    const s = await login(site.mcp, { user: USER, password: PASSWORD });
    for (let i = 0; i < 2 * count; i++) await callSimple(site.mcp, s.tokens.access_token);
    s.tokens = await refreshed(s);
    equal(new Set(site.seen().flatMap((line) => line.tries.map((t) => t.to))).size, count, 'instances that were asked');
    return s;
  });
  await first({ site, as, raw });
  await as.forget();

  const people = Array.from({ length: size.people }, (_, n) => new Steady(n, site.mcp, { user: USER, password: PASSWORD, redirect: `http://127.0.0.1:${3100 + n}/callback` }));
  if (long) await as.ctl('fault?delay=30&after=60');
  const rotated = Date.now();
  await stage.check('the keys are rotated while all instances run', async () => equal((await site.rotateKeys()).code, 0, 'keyring rotate'));
  let over = false;
  const crowd = Promise.allSettled(Array.from({ length: size.at_once }, (_, lane) => lives(people, lane))).finally(() => { over = true; });
  const pythons = python(stage, site);
  const half = () => over || people.filter((p) => p.closed).length >= size.people / 2;
  await stage.check('instances are killed and started again in turn', () => killing(site, half), { timeout: 900_000 });
  if (redis) await stage.must(`Redis is killed for ${size.away / 1000} s: pairs that were issued work, all else is told to come again`, () => away(site, redis, raw, outages));
  await stage.check('instances are killed and started again in turn, once more', () => killing(site, () => over), { timeout: 900_000 });
  await stage.check('the Python client came through, or something of it was in flight at a kill', async () => {
    const { came, lost } = await pythons;
    console.log(`       ${came} came through, ${lost.length} did not`);
    equal(lost.filter((one) => !lostUnnamed(site, one)), [], 'lost without a cause');
  });
  await stage.must('everybody got to the end', async () => equal((await crowd).map((lane) => lane.reason?.message).filter(Boolean), [], 'errors'), { timeout: 900_000 });
  await as.ctl('fault');
  await stage.check('the new key seals, and whoever signed in before is signed in', async () => {
    await newKey(site, rotated);
    raw.tokens = await refreshed(raw);
    await callSimple(site.mcp, raw.tokens.access_token);
  }, { timeout: 400_000 });
  await stage.check('all sign-ins still work: a refresh and a call each', async () => {
    for (const p of people) await p.refresh();
  }, { timeout: 400_000 });
  for (const p of people) await p.close();
  await verdict(stage, { site, as, people, outages });
}

// Every at_once-th user, one after another: sign-in, then calls and refreshes.
async function lives(people, lane) {
  // Passwords take their time, and too many at once are told to come again.
  await sleep(lane * 400);
  for (let n = lane; n < people.length; n += size.at_once) {
    const p = people[n];
    await p.signIn();
    await p.call();
    for (let i = 0; i < size.rounds; i++) {
      await p.refresh();
      for (let k = 0; k < 3; k++) { await sleep(300); await p.call(); }
    }
    p.closed = true;
  }
}

// The Python client, one sign-in after another. It tries nothing again.
async function python(stage, site) {
  const [lost, redirect] = [[], `http://127.0.0.1:${await freePort()}/callback`];
  for (let i = 0; i < size.pythons; i++) {
    const from = Date.now();
    const line = [join(ROOT, 'clients/python.py'), site.mcp, '--redirect', redirect, '--repeat', '8', '--every', '0.3'];
    const r = await run(stage, 'python', join(ROOT, '.venv/bin/python'), line, { env: { PEERS_NODE: process.execPath, PEERS_PASSWORD: PASSWORD } });
    const said = JSON.parse(r.stdout);
    if (!said.ok) lost.push({ from, to: Date.now(), error: said.error });
  }
  return { came: size.pythons - lost.length, lost };
}

async function killing(site, enough) {
  // Whoever waits for the lease of the dead is left in peace at the end.
  for (let i = 0; i < size.kills && !enough(); i++) {
    await site.kill(site.instances[i % site.instances.length]);
    await sleep(size.pause);
  }
}

export async function refreshed(s) {
  const r = await token(s.as, { grant_type: 'refresh_token', refresh_token: s.tokens.refresh_token, client_id: s.client.client_id, resource: s.resource });
  equal(r.status, 200, `refresh: ${r.text.slice(0, 200)}`);
  return r.body;
}

async function together({ site, as, raw: s }) {
  const asked = async () => (await as.log()).filter((e) => e.grant === 'refresh_token').length;
  const before = await asked();
  await as.ctl('fault?after=300');
  const pairs = await Promise.all(Array.from({ length: 32 }, () => refreshed(s)));
  await as.ctl('fault');
  equal((await asked()) - before, 1, 'refreshes upstream');
  for (const pair of pairs) await callSimple(site.mcp, pair.access_token);
  s.tokens = pairs.at(-1);
}

async function away(site, redis, s, outages) {
  const outage = { at: Date.now(), back: Infinity };
  outages.push(outage);
  await redis.kill();
  await site.untilReady(503);
  const until = Date.now() + size.away;
  let calls = 0;
  for (; Date.now() < until; calls++) {
    await callSimple(site.mcp, s.tokens.access_token);
    await sleep(50);
  }
  const asks = { refresh: await token(s.as, { grant_type: 'refresh_token', refresh_token: s.tokens.refresh_token, client_id: s.client.client_id }) };
  asks.revoke = await form(s.as.revocation_endpoint, { token: s.tokens.refresh_token, client_id: s.client.client_id });
  for (const [what, r] of Object.entries(asks)) {
    equal([r.status, r.body.error], [503, 'temporarily_unavailable'], what);
    assert(Number(r.headers.get('retry-after')) > 0, `${what}: no Retry-After`);
  }
  const page = await getJson(authorizeUrl(s.as, { response_type: 'code', client_id: s.client.client_id, redirect_uri: s.redirect_uri, state: 's', code_challenge: s.pkce.challenge, code_challenge_method: 'S256' }));
  const back = new URL(page.headers.get('location') ?? 'none:', s.as.issuer);
  equal([page.status, back.href.startsWith(s.redirect_uri), back.searchParams.get('error')], [303, true, 'temporarily_unavailable'], 'a new sign-in');
  await redis.run();
  await site.untilReady(200);
  outage.back = Date.now();
  s.tokens = await refreshed(s);
  await callSimple(site.mcp, s.tokens.access_token);
  console.log(`       ${calls} calls while it was away; ready ${outage.back - until} ms after it was to come back`);
}

// The new key opens at once and seals five minutes later. Who has not the time tells the file that they are over, when every instance
// has read it.
async function newKey(site, rotated) {
  if (long) await sleep(Math.max(0, rotated + 310_000 - Date.now()));
  else {
    await sleep(Math.max(0, rotated + 6000 - Date.now()));
    const file = JSON.parse(readFileSync(site.keys, 'utf8'));
    equal(file.keys.length, 2, 'keys');
    file.keys[1].seals_from = Math.floor(Date.now() / 1000);
    writeFileSync(site.keys, JSON.stringify(file));
    await sleep(6000);
  }
}

async function verdict(stage, { site, as, people, outages }) {
  const failures = causes(people, site, outages);
  const done = (kind) => people.reduce((sum, p) => sum + (p.done[kind] ?? 0), 0);
  const seen = upstream(await as.log(), people.flatMap((p) => p.given));
  console.log(`       ${done('sign-in')} sign-ins, ${done('refresh')} refreshes, ${done('call')} calls; ${site.kills.length} kills`);
  console.log(`       in flight at a kill: ${counted(failures.filter((f) => f.kill).map((f) => `${f.kind}: ${f.why}`))}`);
  console.log(`       and what followed: ${counted(failures.filter((f) => f.after).map((f) => `${f.kind}: ${f.why}`))}`);
  console.log(`       without Redis: ${counted(failures.filter((f) => f.away && !f.kill).map((f) => `${f.kind}: ${f.why}`))}`);
  console.log(`       upstream: ${seen.asked} refreshes, ${seen.reused.length} with a token that was rotated before`);
  await stage.check('nobody failed who had nothing in flight on an instance that was killed', async () => equal(without(failures).map(({ kill, ...f }) => f), [], 'failures without a cause'));
  await stage.check('one kill took at most one thing from one user', async () => equal(twicePerKill(failures), [], 'what one kill took twice'));
  await stage.check('no call failed while Redis was away', async () => equal(failures.filter((f) => f.away && !f.kill && f.kind === 'call'), [], 'calls'));
  await stage.check('every client had what the upstream issued', async () => equal(seen.strange, [], 'tokens that it did not issue'));
  await stage.check('the upstream never saw a token that it had rotated and we had committed', async () => equal(seen.committed, [], 'tokens seen again'));
  await stage.check('each token that was seen again was in flight at a kill', async () => {
    const lost = failures.filter((f) => f.kill && f.kind === 'refresh').length;
    assert(seen.reused.length <= lost, `${seen.reused.length} were, and ${lost} refreshes were in flight`);
  });
}
