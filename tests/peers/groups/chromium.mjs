// A real browser through the gateway's pages. What only a real browser can tell: that cookies are kept, that the
// Content-Security-Policy lets the form posts through (Chromium applies form-action to every hop of the redirects that
// follow a form post, so the approve click must be allowed to reach the upstream and the client), and how pages look.
// The screenshots are in out/screens.
import { chromium } from 'playwright-core';
import { createServer } from 'node:http';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { OUT, USER, PASSWORD, assert, equal, freePort, sleep } from '../lib/kit.mjs';
import { asMetadata, authorizeUrl, b64u, login, pkce, register, token } from '../lib/oauth.mjs';
import { TEXT, callSimple, rpc } from '../lib/mcp.mjs';
import { randomBytes } from 'node:crypto';

const ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'];
const SCREENS = join(OUT, 'screens');
const LOOKS = [['light', 390], ['light', 1280], ['dark', 390], ['dark', 1280]];

export default async function pages(stage) {
  rmSync(SCREENS, { recursive: true, force: true });
  mkdirSync(SCREENS, { recursive: true });
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS, headless: true });
  stage.defer(() => browser.close());
  const client = await listener(stage);

  await control(stage, browser, client);

  const as = await stage.authorizationServer();
  const up = await stage.mcpServer({ as });
  const gw = await stage.gateway(up.mcp);
  await approve(stage, browser, { gw, client, as });
  await deny(stage, browser, { gw, client });
  await customScheme(stage, browser, { gw, what: 'deny', wanted: /[?&]error=access_denied(&|$)/ });

  // An upstream that asks nothing: from the approve click on, everything is one chain of redirects.
  const silent = await stage.authorizationServer({ LOGIN: 'auto' });
  const upSilent = await stage.mcpServer({ as: silent, name: 'upstream-silent' });
  const gwSilent = await stage.gateway(upSilent.mcp);
  await oneChain(stage, browser, { gw: gwSilent, client });
  await customScheme(stage, browser, { gw: gwSilent, what: 'approve', wanted: /[?&]code=[^&]/ });
  await unlocked(stage, browser, client);
  await approvals(stage, browser);
}

// A key that is pasted on the consent page, and a sign-in at an identity provider.
async function unlocked(stage, browser, client) {
  const [port, idpPort] = [await freePort(), await freePort()];
  const idp = `http://127.0.0.1:${idpPort}`;
  const known = { client_id: 'gateway', client_secret: 'a-secret-of-the-identity-provider', redirect_uris: [`http://127.0.0.1:${port}/login/callback/corp`], grant_types: ['authorization_code'], response_types: ['code'], token_endpoint_auth_method: 'client_secret_basic', scope: 'openid profile email' };
  await stage.piece('identity-provider', 'oidc-provider.mjs', { PORT: String(idpPort), DEFAULT_SCOPE: '', STATIC_CLIENTS: JSON.stringify([known]) });
  const pasted = await stage.mcpServer({ name: 'upstream-paste', env: { AUTH: `static:${PASSWORD}` } });
  const open = await stage.mcpServer({ name: 'upstream-open' });
  const gateway = await stage.configured(port, `
[idp.corp]
preset = "oidc"
issuer = "${idp}"
client_id = "gateway"
client_secret = "${known.client_secret}"
allow = { emails = ["alice@example.com"] }
[services.legacy]
url = "${pasted.mcp}"
login = "none"
upstream = "paste"
[services.calculator]
url = "${open.mcp}"
login = "idp:corp"
upstream = "identity"
`);
  await gateway.start();
  const at = (name) => ({ url: `${gateway.url}/mcp/${name}`, mcp: `${gateway.url}/mcp/${name}` });
  const field = 'input[type=password]';

  await stage.check('a pasted key: asked for beside consent, refused when wrong, and the client gets its code when right', async () => {
    const me = await person(browser);
    const r = await request(at('legacy'), client.redirect);
    await me.page.goto(r.url);
    await me.page.waitForSelector(field);
    await shoot(stage, me.page, 'paste');
    await me.page.fill(field, 'not-the-key-at-all');
    await decide(me, 'approve');
    await me.page.waitForSelector('[role=alert]');
    await shoot(stage, me.page, 'paste-refused');
    equal(await me.page.inputValue(field), '', 'the key that was refused is in the page again');
    await me.page.fill(field, PASSWORD);
    await decide(me, 'approve');
    const came = await arrive(client, r.state);
    assert(came?.code, `no code: ${JSON.stringify(came)} at ${me.page.url()}`);
    equal(me.blocked(), [], 'complaints of the policy');
    await me.close();
  });
  for (const [who, ends] of [['alice', 'code'], ['bob', undefined]]) {
    await stage.check(`an identity provider: ${who} ${ends ? 'signs in, consents, and the client gets its code' : 'is not admitted, and told so'}`, async () => {
      const me = await person(browser);
      const r = await request(at('calculator'), client.redirect);
      await me.page.goto(r.url);
      await me.page.waitForSelector('form button');
      if (ends) await shoot(stage, me.page, 'provider');
      await me.page.locator('form button.primary, form [type=submit]').first().click();
      await me.page.waitForSelector('input[name=login]');
      await me.page.fill('input[name=login]', who);
      await me.page.fill('input[name=password]', 'anything');
      await me.page.locator('button[type=submit]').click();
      await me.page.waitForSelector('button[autofocus][type=submit]:has-text("Continue")');
      await me.page.locator('button[type=submit]:has-text("Continue")').click();
      if (ends) {
        await me.page.waitForSelector('[name=decision][value=approve]');
        await shoot(stage, me.page, 'consent-identity');
        await decide(me, 'approve');
        const came = await arrive(client, r.state);
        assert(came?.[ends], `no ${ends}: ${JSON.stringify(came)} at ${me.page.url()}`);
      } else {
        await me.page.waitForURL((url) => url.port === String(port));
        await shoot(stage, me.page, 'not-admitted');
        assert(!(await me.page.locator('[name=decision][value=approve]').count()), 'consent is asked of somebody who is not admitted');
      }
      equal(me.blocked(), [], 'complaints of the policy');
      await me.close();
    });
  }
}

// The page of approvals in a session: its script shows a new call, leaves a form that is in use as it is, and the
// decision reaches the call that is held open.
async function approvals(stage, browser) {
  const port = await freePort();
  const up = await stage.mcpServer({ name: 'upstream-tools' });
  const gateway = await stage.configured(port, `
session_ttl = 600
[services.tools]
url = "${up.mcp}"
upstream = "none"
[services.tools.tools]
default = "ask"
approval_hold = 60
`);
  await gateway.start();
  const url = `${gateway.url}/mcp/tools`;
  const { tokens } = await login(url, { user: USER, password: PASSWORD });
  const call = (n) => rpc(url, tokens.access_token, 'tools/call', { name: 'test_simple_text', arguments: { n } }).catch((e) => ({ failed: e }));
  const me = await person(browser);
  let held;
  await stage.check('approvals: a new call appears on the open page', async () => {
    await me.page.goto(`${gateway.url}/approvals`);
    await me.page.fill('input[name=username]', USER);
    await me.page.fill('input[name=password]', PASSWORD);
    await me.page.locator('[name=decision][value=show]').click();
    await me.page.waitForSelector('text=Nothing waits.');
    held = call(1);
    await me.page.waitForSelector('[data-call]', { timeout: 15_000 });
    equal(await me.page.title(), '(1) Approvals', 'the title');
    await shoot(stage, me.page, 'approvals');
  });
  await stage.check('approvals: a form in use stays as it is when another call comes', async () => {
    await me.page.locator('input[name=id]').check();
    await me.page.fill('input[name=password]', PASSWORD);
    const second = call(2); // other arguments: the same call would join the first
    await me.page.waitForSelector('#live:has-text("Reload the page")', { timeout: 15_000 });
    equal(await me.page.locator('[data-call]').count(), 1, 'calls on the page');
    await me.page.locator('[name=decision][value=approve]').click();
    await me.page.waitForSelector('text=1 approved.');
    equal((await held).body?.result?.content?.[0]?.text, TEXT, 'the answer of the approved call');
    await me.page.locator('input[name=id]').check();
    await me.page.fill('input[name=password]', PASSWORD);
    await me.page.locator('[name=decision][value=deny]').click();
    await me.page.waitForSelector('text=1 denied.');
    assert((await second).body?.result?.isError, 'the denied call has no error');
  });
  equal(me.blocked(), [], 'complaints of the policy');
  await me.close();
}

// The client's own loopback callback.
async function listener(stage) {
  const port = await freePort();
  const seen = [];
  const server = createServer((req, res) => {
    if (req.url.startsWith('/callback')) seen.push(Object.fromEntries(new URL(req.url, 'http://x').searchParams));
    res.writeHead(200, { 'content-type': 'text/html' });
    res.end('<!doctype html><title>client</title><p>Back at the client.');
  });
  await new Promise((ok) => server.listen(port, '127.0.0.1', ok));
  stage.defer(() => { server.close(); server.closeAllConnections(); });
  return { redirect: `http://127.0.0.1:${port}/callback`, seen };
}

// A fresh person: a browser context of its own, everything the pages complain about, and every redirect they give.
async function person(browser) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const complaints = [];
  const locations = [];
  const complain = (text) => complaints.push({ text, at: page.url() });
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) complain(m.text()); });
  page.on('pageerror', (e) => complain(String(e)));
  const cdp = await context.newCDPSession(page);
  await cdp.send('Network.enable');
  await cdp.send('Log.enable');
  cdp.on('Network.responseReceivedExtraInfo', (e) => { const l = Object.entries(e.headers).find(([k]) => k.toLowerCase() === 'location'); if (l) locations.push(l[1]); });
  cdp.on('Log.entryAdded', ({ entry }) => { if (entry.level === 'error') complain(entry.text); });
  const blocked = () => complaints.filter((c) => /content security policy|form-action/i.test(c.text)).map((c) => c.text);
  return { context, page, complaints, locations, blocked, close: () => context.close() };
}

async function shoot(stage, page, name) {
  for (const [scheme, width] of LOOKS) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: width < 600 ? 844 : 800 });
    await page.screenshot({ path: join(SCREENS, `${name}-${scheme}-${width}.png`), fullPage: true });
    if (width === 390 && scheme === 'light') {
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      stage.report(`${name}: fits 390 px without scrolling sideways`, wide <= 390 ? undefined : new Error(`${wide} px wide`));
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize({ width: 1280, height: 800 });
}

async function request(gw, redirect) {
  const as = await asMetadata(gw.url);
  const c = await register(as, { client_name: 'A browser peer', redirect_uris: [redirect] });
  assert(c.body?.client_id, `registration answered ${c.status} ${c.text}`);
  const p = pkce();
  const state = b64u(randomBytes(12));
  return { as, state, client_id: c.body.client_id, verifier: p.verifier, redirect, url: authorizeUrl(as, { response_type: 'code', client_id: c.body.client_id, redirect_uri: redirect, state, code_challenge: p.challenge, code_challenge_method: 'S256', resource: gw.mcp, scope: 'mcp:tools' }) };
}

async function signIn(me, r) {
  await me.page.goto(r.url);
  await me.page.fill('input[name=username]', USER);
  await me.page.fill('input[name=password]', PASSWORD);
  await me.page.locator('form:has(input[name=password]) [type=submit], form:has(input[name=password]) button').first().click();
  await me.page.waitForSelector('[name=decision][value=approve]', { timeout: 15_000 });
}

async function arrive(client, state, ms = 15_000) {
  for (const until = Date.now() + ms; Date.now() < until; await sleep(50)) { const x = client.seen.find((s) => s.state === state); if (x) return x; }
  return undefined;
}

const decide = (me, what) => me.page.locator(`[name=decision][value=${what}]`).click({ noWaitAfter: true });
const where = async (me) => (await sleep(500), `the browser is at ${me.page.url().split('?')[0]}; blocked: ${JSON.stringify(me.blocked())}; redirects: ${JSON.stringify(me.locations.slice(-4).map((l) => l.split('?')[0]))}`);

// Can this browser see what the checks below look for? A form post that is redirected where form-action forbids must be
// stopped, or those checks mean nothing.
async function control(stage, browser, client) {
  const port = await freePort();
  const server = createServer((req, res) => {
    if (req.method === 'POST') { res.writeHead(303, { location: `${client.redirect}?state=${req.url.slice(1)}` }); return res.end(); }
    res.writeHead(200, { 'content-type': 'text/html', 'content-security-policy': req.url === '/closed' ? "form-action 'self'" : `form-action 'self' ${new URL(client.redirect).origin}` });
    res.end('<form method=post><button>go</button></form>');
  });
  await new Promise((ok) => server.listen(port, '127.0.0.1', ok));
  stage.defer(() => { server.close(); server.closeAllConnections(); });
  for (const kind of ['closed', 'open']) {
    await stage.check(`control: a redirect after a form post is ${kind === 'closed' ? 'stopped by' : 'let through with'} form-action`, async () => {
      const me = await person(browser);
      await me.page.goto(`http://127.0.0.1:${port}/${kind}`);
      await me.page.click('button', { noWaitAfter: true });
      const came = await arrive(client, kind, kind === 'closed' ? 1500 : 10_000);
      equal([!!came, me.blocked().length > 0], [kind === 'open', kind === 'closed'], '[arrived, complained]');
      await me.close();
    });
  }
}

async function approve(stage, browser, { gw, client, as }) {
  const me = await person(browser);
  const r = await request(gw, client.redirect);
  await stage.must('sign-in page', async () => {
    await me.page.goto(r.url);
    await me.page.waitForSelector('input[name=password]', { timeout: 15_000 });
  });
  await shoot(stage, me.page, 'sign-in');
  await stage.check('a wrong password is told so, and the page stays', async () => {
    await me.page.fill('input[name=username]', USER);
    await me.page.fill('input[name=password]', 'not the password');
    await me.page.locator('form:has(input[name=password]) [type=submit], form:has(input[name=password]) button').first().click();
    await me.page.waitForLoadState();
    assert(await me.page.locator('input[name=password]').count(), 'no sign-in form after a wrong password');
  });
  await shoot(stage, me.page, 'sign-in-wrong');
  await stage.must('consent page', () => signIn(me, r));
  await stage.check('consent page: names the client and where it goes back to', async () => {
    const text = await me.page.locator('body').innerText();
    assert(text.includes('A browser peer'), `no client name: ${text.slice(0, 300)}`);
    assert(text.includes(new URL(client.redirect).host) || text.includes('127.0.0.1'), `no redirect host: ${text.slice(0, 300)}`);
  });
  await shoot(stage, me.page, 'consent');
  await stage.must('approve reaches the upstream', async () => {
    await decide(me, 'approve');
    await me.page.waitForURL((u) => u.origin === as.url, { timeout: 15_000 }).catch(async (e) => { throw new Error(`${await where(me)}; ${e.message}`); });
  });
  await me.page.waitForSelector('input[name=login]');
  await shoot(stage, me.page, 'upstream');
  const back = await stage.must('upstream sign-in and consent, and back at the client', async () => {
    await me.page.fill('input[name=login]', USER);
    await me.page.fill('input[name=password]', 'anything');
    await me.page.click('button[type=submit]');
    await me.page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached' });
    await me.page.locator('button[type=submit]').click({ noWaitAfter: true });
    const got = await arrive(client, r.state);
    assert(got?.code, `${JSON.stringify(got)}; ${await where(me)}`);
    return got;
  });
  await stage.check('the code is worth a pair that works', async () => {
    const t = await token(r.as, { grant_type: 'authorization_code', code: back.code, redirect_uri: r.redirect, client_id: r.client_id, code_verifier: r.verifier, resource: gw.mcp });
    equal(t.status, 200, `token ${t.text}`);
    await callSimple(gw.mcp, t.body.access_token);
  });
  await stage.check('the client learns the issuer (RFC 9207)', async () => equal(back.iss, gw.url, 'iss'));
  await stage.check('the browser finds nothing to complain about on the pages', async () => {
    const own = me.complaints.filter((c) => c.at.startsWith(gw.url) && !/favicon|status of 4\d\d/i.test(c.text)); // a refused password may be a 4xx
    equal(own.map((c) => c.text), [], 'complaints');
  });
  await me.close();
}

async function deny(stage, browser, { gw, client }) {
  const me = await person(browser);
  const r = await request(gw, client.redirect);
  await stage.check('deny: the client learns access_denied', async () => {
    await signIn(me, r);
    await decide(me, 'deny');
    const got = await arrive(client, r.state);
    assert(got, await where(me));
    await me.page.waitForURL((u) => u.href.startsWith(client.redirect));
    equal([got.error, got.code], ['access_denied', undefined], '[error, code]');
    equal(me.blocked(), [], 'blocked');
  });
  await stage.check('an authorization request that cannot be sent back is shown to the person', async () => {
    const bad = new URL(r.url);
    bad.searchParams.set('redirect_uri', 'http://127.0.0.1:1/elsewhere');
    const answer = await me.page.goto(bad.toString());
    assert(answer.status() >= 400 && answer.status() < 500, `status ${answer.status()}`);
    assert(/html/.test(answer.headers()['content-type'] ?? ''), `content type ${answer.headers()['content-type']}`);
    equal(new URL(me.page.url()).origin, gw.url, 'the browser is at');
  });
  await shoot(stage, me.page, 'error');
  await me.close();
}

// A native client with a scheme of its own. No program here handles it, so what counts is that the browser got the
// redirect (or a page with the link), with nothing blocked on the way.
async function customScheme(stage, browser, { gw, what, wanted }) {
  await stage.check(`${what} with a custom scheme: the browser is sent to it`, async () => {
    const me = await person(browser);
    const r = await request(gw, 'com.example.peer:/callback');
    await signIn(me, r);
    await decide(me, what);
    const fits = (l) => l.startsWith('com.example.peer:/callback?') && wanted.test(l);
    const link = async () => (await me.page.locator('a[href^="com.example.peer:"]').evaluateAll((all) => all.map((a) => a.href)).catch(() => [])).some(fits);
    for (const until = Date.now() + 10_000; Date.now() < until && !me.locations.some(fits) && !(await link()); await sleep(50));
    await sleep(300); // a complaint comes after the redirect it is about
    assert(me.locations.some(fits) || (await link()), await where(me));
    equal(me.blocked(), [], 'blocked');
    await me.close();
  });
}

async function oneChain(stage, browser, { gw, client }) {
  await stage.check('an upstream that asks nothing: from the approve click to the client in one chain of redirects', async () => {
    const me = await person(browser);
    const r = await request(gw, client.redirect);
    await signIn(me, r);
    await decide(me, 'approve');
    const got = await arrive(client, r.state);
    assert(got?.code, `${JSON.stringify(got)}; ${await where(me)}`);
    equal(me.blocked(), [], 'blocked');
    await me.close();
  });
}
