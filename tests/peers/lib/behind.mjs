// What must hold whatever proxy stands in front of the gateway: at a host of its own (form "root"), or below the path /gw of another
// one (form "prefix").
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { USER, PASSWORD, assert, equal, freePort, gatewayBin, run, sleep } from './kit.mjs';
import { asMetadata, authorize, getJson, login, pkce, register, token } from './oauth.mjs';
import { Browser } from './browser.mjs';
import { callSimple, rpc } from './mcp.mjs';

const DOCUMENTS = ['oauth-protected-resource', 'oauth-authorization-server', 'openid-configuration'];

export async function ports() { return { root: await freePort(), prefix: await freePort(), gateway: await freePort() }; }

// Starts a gateway, has `front` start the proxy before it, and runs all checks; `front` is told the ports and where its form must be
// ready. The answer is what further checks need; whoever asks ends the gateway.
export async function behind(stage, form, upstream, front) {
  const at = await ports();
  const [origin, prefix] = [`http://127.0.0.1:${at[form]}`, form === 'root' ? '' : '/gw'];
  const url = `${origin}${prefix}`;
  const gateway = await gatewayAt(stage, form, at.gateway, url, upstream);
  await front(at, `${url}/health/ready`);
  const check = (name, what) => stage.check(`${form}: ${name}`, what);

  await check('every metadata document is where a client looks for it', async () => {
    for (const [path, resource, issuer] of [['/mcp', `${url}/mcp`, url], ['/mcp/notes', `${url}/mcp/notes`, `${url}/mcp/notes`], ['/mcp/open', `${url}/mcp/open`, `${url}/mcp/open`]]) {
      const prm = await getJson(`${origin}/.well-known/oauth-protected-resource${prefix}${path}`);
      equal([prm.status, prm.body?.resource, prm.body?.authorization_servers], [200, resource, [issuer]], path);
      const challenge = (await rpc(resource, undefined, 'tools/list')).headers.get('www-authenticate');
      assert(challenge?.includes(`resource_metadata="${prm.url}"`), `${resource} challenges with ${challenge}`);
      const md = await asMetadata(issuer);
      equal(md.issuer, issuer, 'issuer');
      for (const [key, value] of Object.entries(md)) if (/_(endpoint|uri)$/.test(key)) assert(value.startsWith(`${url}/`), `${key} is ${value}`);
    }
    for (const document of DOCUMENTS.slice(1)) equal((await getJson(`${origin}/.well-known/${document}${prefix}`)).body?.issuer, url, document);
  });
  await check('healthcheck asks past the proxy, on the machine itself', async () => {
    const r = await run(stage, 'healthcheck', gatewayBin, ['healthcheck', '--port', String(at.gateway)]);
    equal(r.code, 0, `healthcheck: ${r.output}`);
  });
  if (prefix) {
    await check('the rest of the host is not ours', async () => {
      for (const path of ['/mcp', '/gwx/mcp', '/health/live', ...DOCUMENTS.flatMap((d) => [`/.well-known/${d}`, `/.well-known/${d}/gwx`])]) {
        equal((await getJson(origin + path)).text, 'the rest of the host', path);
      }
    });
  }
  const s = await check('sign-in, tool call and refresh', async () => {
    const s = await login(`${url}/mcp`, { user: USER, password: PASSWORD });
    await callSimple(`${url}/mcp`, s.tokens.access_token);
    const next = await token(s.as, { grant_type: 'refresh_token', refresh_token: s.tokens.refresh_token, client_id: s.client.client_id });
    equal(next.status, 200, `refresh ${next.text.slice(0, 200)}`);
    await callSimple(`${url}/mcp`, next.body.access_token);
    return s;
  });
  await check('a named service: its own sign-in, and its tokens open no other', async () => {
    const open = await login(`${url}/mcp/notes`, { user: USER, password: PASSWORD });
    await callSimple(`${url}/mcp/notes`, open.tokens.access_token);
    equal((await rpc(`${url}/mcp/open`, open.tokens.access_token, 'tools/list')).status, 401, 'at another service');
  });
  await check('events arrive one by one', async () => {
    const seen = [];
    const r = await ticks(`${url}/mcp`, s.tokens.access_token, 5, 200);
    const decoder = new TextDecoder();
    let text = '';
    for await (const part of r.body) {
      text += decoder.decode(part, { stream: true });
      // When the upstream wrote it, and that we have it now; both by this machine's clock.
      for (const [, sent] of [...text.matchAll(/"message":"(\d+)"/g)].slice(seen.length)) seen.push({ sent: Number(sent), got: Date.now() });
    }
    equal(seen.length, 5, `ticks in ${r.status} ${text.slice(0, 200)}`);
    for (let i = 1; i < seen.length; i++) assert(seen[i - 1].got < seen[i].sent, `tick ${i} had not come when the next one was sent: ${JSON.stringify(seen)}`);
  });
  await check('a stream ends up to the upstream when its client goes', async () => {
    const before = (await upstream.live()).live;
    const leave = new AbortController();
    const r = await ticks(`${url}/mcp`, s.tokens.access_token, 1000, 100, leave.signal);
    await r.body.getReader().read();
    equal((await upstream.live()).live, before + 1, 'streams');
    leave.abort();
    for (let i = 0; ; i++) {
      if ((await upstream.live()).live === before) break;
      assert(i < 100, 'the upstream still streams');
      await sleep(100);
    }
  });
  await check('a large request passes', async () => {
    const r = await rpc(`${url}/mcp`, s.tokens.access_token, 'tools/call', { name: 'test_simple_text', arguments: { padding: 'x'.repeat(3_000_000) } });
    equal(r.status, 200, r.text.slice(0, 200));
  });
  await check('limits count for whom the proxy heard, whatever a caller says of itself', async () => {
    equal(await refusedSources(gateway, url, from('127.0.0.2', FORGED)), ['127.0.0.2'], 'source');
  });
  await check('whoever comes past the proxy is not believed about its address', async () => {
    const direct = from('127.0.0.3', { ...FORGED, host: `127.0.0.1:${at[form]}` }, at.gateway);
    equal(await refusedSources(gateway, url, direct), ['127.0.0.3'], 'source');
  });
  return { at, url, prefix, gateway, check, tokens: s?.tokens };
}

const FORGED = { 'x-forwarded-for': '203.0.113.9', forwarded: 'for=203.0.113.9', 'x-real-ip': '203.0.113.9' };

// A wrong password is given through this fetch; the addresses that the gateway says it was refused to.
async function refusedSources(gateway, url, fetch) {
  const refused = () => gateway.output().split('\n').filter((line) => line.includes('sign-in refused'));
  const before = refused().length;
  const md = await asMetadata(url);
  const { client_id } = (await register(md)).body;
  const browser = new Browser({ user: USER, password: 'not-the-password', maxSteps: 4, fetch });
  const asks = { response_type: 'code', client_id, redirect_uri: 'http://127.0.0.1:3999/callback', state: 's', code_challenge: pkce().challenge, code_challenge_method: 'S256' };
  await authorize(md, asks, { browser }).catch(() => {});
  // The log is written beside the response.
  for (let i = 0; i < 100 && refused().length === before; i++) await sleep(50);
  return [...new Set(refused().slice(before).map((line) => JSON.parse(line).source))];
}

// A tool that tells its progress n times, one time each so many milliseconds.
function ticks(mcp, bearer, n, ms, signal) {
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'slow_ticks', authorization: `Bearer ${bearer}` };
  const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {}, progressToken: 't' };
  const params = { name: 'slow_ticks', arguments: { n, ms }, _meta };
  return fetch(mcp, { method: 'POST', headers, body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }), signal });
}

// The gateway that believes loopback about addresses, with a service that is the default and two more.
export async function gatewayAt(stage, form, port, url, upstream) {
  const dir = join(stage.dir, `gateway-${form}`);
  mkdirSync(dir);
  writeFileSync(join(dir, 'gateway.toml'), `
public_url = "${url}"
listen = ["127.0.0.1:${port}"]
trusted_proxies = ["127.0.0.1"]

[services.main]
url = "${upstream.mcp}"
default = true

[services.notes]
url = "${upstream.mcp}"

[services.open]
url = "${upstream.mcp}"
`);
  const env = { MCP_GATEWAY_USERNAME: USER, MCP_GATEWAY_PASSWORD: PASSWORD };
  const line = ['--config', join(dir, 'gateway.toml'), '--data-dir', join(dir, 'data')];
  return stage.start(`gateway-${form}`, gatewayBin, line, { env, ready: `http://127.0.0.1:${port}/health/ready`, timeout: 30_000 });
}

// A fetch, as much of it as a browser needs, that comes from another address of this machine, and goes to another port if one is given.
function from(localAddress, more, port) {
  return (url, { method, headers, body }) => new Promise((ok, no) => {
    const to = new URL(url);
    if (port) to.port = port;
    const sent = request(to, { method, headers: { ...headers, ...more }, localAddress }, (r) => {
      const parts = [];
      r.on('data', (part) => parts.push(part));
      r.on('end', () => {
        const answered = new Headers();
        for (let i = 0; i < r.rawHeaders.length; i += 2) answered.append(r.rawHeaders[i], r.rawHeaders[i + 1]);
        ok(new Response([204, 304].includes(r.statusCode) ? null : Buffer.concat(parts), { status: r.statusCode, headers: answered }));
      });
    });
    sent.on('error', no);
    sent.end(body);
  });
}
