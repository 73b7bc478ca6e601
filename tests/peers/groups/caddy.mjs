// The gateway behind Caddy, by deploy/Caddyfile itself: its names and ports are filled in, nothing else. Once at a host of its own,
// once below the path /gw of another one; once over TLS, and once with an instance that is away.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import { join } from 'node:path';
import { assert, equal, run } from '../lib/kit.mjs';
import { behind, gatewayAt, ports } from '../lib/behind.mjs';
import { rpc } from '../lib/mcp.mjs';
import { FILE, filled, started } from '../lib/caddy.mjs';

export default async function caddy(stage) {
  await stage.check('Caddy finds the file valid, and formatted as it formats', async () => {
    const env = { XDG_DATA_HOME: stage.dir, XDG_CONFIG_HOME: stage.dir };
    const r = await run(stage, 'validate', 'caddy', ['validate', '--config', FILE, '--adapter', 'caddyfile'], { env });
    equal(r.code, 0, r.output);
    const formatted = await run(stage, 'fmt', 'caddy', ['fmt', FILE]);
    assert(formatted.stdout === readFileSync(FILE, 'utf8'), 'run `caddy fmt --overwrite deploy/Caddyfile`');
  });
  const upstream = await stage.mcpServer({ as: await stage.authorizationServer() });
  for (const form of ['root', 'prefix']) await one(stage, form, upstream);
  await overTls(stage, upstream);
}

async function one(stage, form, upstream) {
  let front;
  const b = await behind(stage, form, upstream, async (at, ready) => { front = await started(stage, form, filled(stage, form, at), ready); });
  if (form === 'root') {
    await front.end();
    await b.check('with several instances one that is away is passed over', () => passedOver(stage, b));
    front = await started(stage, 'again', join(stage.dir, `caddy-${form}`));
  }
  await b.gateway.end();
  await b.check('a request that nobody answered is logged without code, state and token', async () => {
    const r = await fetch(`${b.url}/upstream/callback?code=a-code&state=a-state`, { headers: { authorization: 'Bearer a-token', cookie: 'a=a-cookie' } });
    equal(r.status, 502, 'without a gateway');
    // Caddy may log the request after it has answered it.
    let line;
    for (let tries = 0; !line && tries < 50; tries += 1) {
      line = front.output().split('\n').find((text) => text.includes('/upstream/callback'));
      if (!line) await new Promise((wake) => { setTimeout(wake, 100); });
    }
    assert(line, 'Caddy said nothing of it');
    assert(!/a-code|a-state|a-token|a-cookie/.test(line), line);
  });
}

// One of two instances was ready when Caddy last asked for its health, and is gone before it asks again. A GET goes to the other one; the
// first POST may be a 502, which is Caddy's issue 7546.
async function passedOver(stage, { at, url, tokens }) {
  let asked;
  const wasAsked = new Promise((ok) => { asked = ok; });
  const other = createServer((request, answer) => { answer.end(); asked(request.url); });
  await new Promise((ok) => { other.listen(0, '127.0.0.1', ok); });
  const front = await started(stage, 'several', filled(stage, 'several', { ...at, gateways: [other.address().port, at.gateway] }));
  equal(await wasAsked, '/health/ready', 'asked for its health');
  other.closeAllConnections();
  await new Promise((ok) => { other.close(ok); });
  const answers = [];
  for (let i = 0; i < 6; i++) answers.push((await fetch(`${url}/.well-known/oauth-authorization-server`)).status);
  for (let i = 0; i < 12; i++) answers.push((await rpc(`${url}/mcp`, tokens.access_token, 'tools/list')).status);
  await front.end();
  assert(answers.slice(0, 6).every((status) => status === 200), `GETs: ${answers}`);
  assert(answers.filter((status) => status !== 200).length <= 1, `all: ${answers}`);
}

async function overTls(stage, upstream) {
  const at = await ports();
  const url = `https://mcp.example.com:${at.root}`;
  const gateway = await gatewayAt(stage, 'tls', at.gateway, url, upstream);
  const dir = filled(stage, 'tls', at, { tls: true });
  await started(stage, 'tls', dir);
  await stage.check('tls: over HTTP/2, at the name that the file has', async () => {
    const ca = readFileSync(join(dir, 'pki/authorities/local/root.crt'));
    const session = connect(`https://127.0.0.1:${at.root}`, { ca, servername: 'mcp.example.com' });
    try {
      const r = await ask(session, { ':path': '/.well-known/oauth-authorization-server', ':authority': `mcp.example.com:${at.root}` });
      equal([r.status, JSON.parse(r.text).issuer], [200, url], 'metadata');
      const other = await ask(session, { ':path': '/mcp', ':method': 'POST', ':authority': `mcp.example.com:${at.root}`, 'content-type': 'application/json' }, '{"jsonrpc":"2.0","id":1,"method":"ping"}');
      equal(other.status, 401, 'without a token');
      assert(other.headers['www-authenticate'].includes(`resource_metadata="${url}/.well-known/`), other.headers['www-authenticate']);
    } finally { session.destroy(); }
  });
  await gateway.end();
}

function ask(session, headers, body) {
  return new Promise((ok, no) => {
    session.on('error', no);
    const sent = session.request(headers);
    let text = '';
    let answered;
    sent.setEncoding('utf8').on('response', (h) => { answered = h; }).on('data', (part) => { text += part; }).on('error', no);
    sent.on('end', () => ok({ status: answered[':status'], headers: answered, text }));
    sent.end(body);
  });
}
