// Six services in one process, one for each way to unlock an upstream, used by real clients at once. oidc-provider is the
// identity provider of one service and the upstream authorization server of another; nginx is the trusted backend.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { PASSWORD, ROOT, USER, assert, equal, freePort, gatewayBin, run } from '../lib/kit.mjs';
import { getJson, login, token } from '../lib/oauth.mjs';
import { TEXT, callSimple, rpc } from '../lib/mcp.mjs';
import { Bridge } from '../clients/stdio-bridge.mjs';
import { connect } from '../clients/ts.mjs';

const remote = createRequire(import.meta.url).resolve('mcp-remote/package.json').replace('package.json', 'dist/proxy.js');
const FIXED = 'a-fixed-key-of-the-service-4711';
const SECRET = 'a-secret-of-the-identity-provider';

export default async function services(stage) {
  const [port, idpPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const as = await stage.authorizationServer();
  const idp = `http://127.0.0.1:${idpPort}`;
  await stage.piece('identity-provider', 'oidc-provider.mjs', {
    PORT: String(idpPort),
    DEFAULT_SCOPE: '',
    STATIC_CLIENTS: JSON.stringify([{ client_id: 'gateway', client_secret: SECRET, redirect_uris: [`${url}/login/callback/corp`], grant_types: ['authorization_code'], response_types: ['code'], token_endpoint_auth_method: 'client_secret_basic', scope: 'openid profile email' }])
  });
  const github = await stage.mcpServer({ as, name: 'upstream-oauth' });
  const pasted = await stage.mcpServer({ name: 'upstream-paste', env: { AUTH: `static:${PASSWORD}` } });
  const fixed = await stage.mcpServer({ name: 'upstream-static', env: { AUTH: `static:${FIXED}` } });
  const open = await stage.mcpServer({ name: 'upstream-open' });
  const backend = await nginx(stage, open.url);
  const { line, env, start } = await stage.configured(port, `
public_directory = true

[idp.corp]
preset = "oidc"
issuer = "${idp}"
client_id = "gateway"
client_secret = "\${IDP_SECRET}"
allow = { domains = ["example.com"] }

[services.github]
url = "${github.mcp}"
default = true

[services.legacy]
url = "${pasted.mcp}"
login = "none"
upstream = "paste"

[services.weather]
url = "${fixed.mcp}"
upstream = "static"
credential = "\${WEATHER_KEY}"

[services.calculator]
url = "${backend}/mcp"
login = "idp:corp"
upstream = "identity"
identity_headers = ["id", "email", "name", "provider", "avatar"]

[services.open]
url = "${open.mcp}"
access = "public"
upstream = "none"

[services.batch]
url = "${open.mcp}"
access = "key"
upstream = "none"
`, { IDP_SECRET: SECRET, WEATHER_KEY: FIXED });
  const checked = await stage.check('check: every upstream and the identity provider answer', async () => {
    const r = await run(stage, 'check', gatewayBin, ['check', ...line], { env });
    equal(r.code, 0, `exit status of check: ${r.output}`);
    for (const said of [`${url}/upstream/callback`, `${url}/login/callback/corp`, as.url, idp]) assert(r.output.includes(said), `check does not say ${said}: ${r.output}`);
    for (const secret of [SECRET, FIXED]) assert(!r.output.includes(secret), 'check prints a secret');
    return true;
  });
  const gateway = await start();
  const at = (name) => `${url}/mcp/${name}`;
  const key = execFileSync(gatewayBin, ['api-keys', 'add', 'batch', '--name', 'nightly', ...line], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim();

  const got = {};
  const client = (name, use) => stage.check(name, use);
  await Promise.all([
    client('oauth: the TypeScript client signs in twice in one journey, and calls', async () => {
      const { client: ts, provider } = await connect(at('github'), { user: USER, password: PASSWORD, redirect: `http://127.0.0.1:${await freePort()}/callback`, mode: 'auto' });
      equal((await ts.callTool({ name: 'test_simple_text', arguments: {} })).content[0].text, TEXT, 'tool call');
      got.github = provider.tokens();
      await ts.close();
    }),
    client('paste: mcp-remote, the key is pasted on the consent page', async () => {
      const bridge = new Bridge(process.execPath, [remote, at('legacy'), String(await freePort()), '--host', '127.0.0.1', '--transport', 'http-only', '--allow-http'], { user: USER, password: PASSWORD, env: { MCP_REMOTE_CONFIG_DIR: join(stage.dir, 'mcp-remote') } });
      stage.defer(() => bridge.end());
      await bridge.initialize();
      equal((await bridge.rpc('tools/call', { name: 'test_simple_text', arguments: {} })).content?.[0]?.text, TEXT, 'tool call');
      await bridge.end();
    }),
    client('identity: the Python client signs in at the identity provider, and the backend knows who it is', async () => {
      const redirect = `http://127.0.0.1:${await freePort()}/callback`;
      const r = await run(stage, 'python', join(ROOT, '.venv/bin/python'), [join(ROOT, 'clients/python.py'), at('calculator'), '--redirect', redirect, '--tool', 'echo_headers'], { env: { PEERS_NODE: process.execPath, PEERS_PASSWORD: PASSWORD } });
      const o = JSON.parse(r.stdout);
      assert(o.ok, `${JSON.stringify(o.error)} ${r.output.slice(0, 300)}`);
    }),
    client('static: the upstream sees the fixed key, and never the client\'s token', async () => {
      const s = await login(at('weather'), { user: USER, password: PASSWORD });
      await callSimple(at('weather'), s.tokens.access_token);
      got.weather = s.tokens;
      const seen = await headersSeen(at('weather'), s.tokens.access_token);
      equal(seen.authorization, `Bearer ${FIXED}`, 'authorization upstream');
    }),
    client('public: no token', () => callSimple(at('open'))),
    client('key: an API key, made while the gateway runs', async () => {
      assert(/^\S+$/.test(key), `api-keys add printed ${key}`);
      await callSimple(at('batch'), key);
      equal((await rpc(at('batch'), undefined, 'tools/list')).status, 403, 'without a key');
    })
  ]);

  await stage.check('identity: what the backend is told, and nothing that the client says of itself', async () => {
    const s = await login(at('calculator'), { user: USER, password: PASSWORD });
    got.calculator = s.tokens;
    const seen = await headersSeen(at('calculator'), s.tokens.access_token, { 'x-user-id': 'mallory', 'x-user-email': 'mallory@example.com', x_user_id: 'mallory', 'x-user-admin': 'yes' });
    equal([seen['x-user-id'], seen['x-user-email'], seen['x-user-name'], seen['x-user-provider']], ['alice', 'alice@example.com', 'User alice', 'corp'], 'identity upstream');
    assert(!JSON.stringify(seen).includes('mallory') && !seen['x-user-admin'] && !seen.authorization, `the backend saw ${JSON.stringify(seen)}`);
  });
  await stage.check('a token of one service is invalid_token at every other', async () => {
    const tokens = { github: got.github.access_token, weather: got.weather.access_token, calculator: got.calculator.access_token, batch: key };
    for (const [of, one] of Object.entries(tokens)) {
      for (const other of ['github', 'legacy', 'weather', 'calculator', 'batch'].filter((name) => name !== of)) {
        const r = await rpc(at(other), one, 'tools/list');
        const challenge = r.headers.get('www-authenticate');
        // A service that takes keys only has no sign-in, so its answer begins none.
        equal(r.status, other === 'batch' ? 403 : 401, `a token of ${of} at ${other}`);
        assert(other === 'batch' ? challenge === null : /error="invalid_token"/.test(challenge ?? ''), `a token of ${of} at ${other}: ${challenge}`);
      }
    }
  });
  await stage.check('a refresh token of one service is invalid_grant at every other', async () => {
    const md = (await getJson(`${url}/.well-known/oauth-authorization-server/mcp/github`)).body;
    const registered = await (await fetch(md.registration_endpoint, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ redirect_uris: ['http://127.0.0.1/callback'], token_endpoint_auth_method: 'none' }) })).json();
    const r = await token(md, { grant_type: 'refresh_token', refresh_token: got.weather.refresh_token, client_id: registered.client_id });
    equal([r.status, r.body.error], [400, 'invalid_grant'], 'refresh');
  });
  await stage.check('every form of address names itself', async () => {
    for (const [path, resource, issuer] of [['/mcp', `${url}/mcp`, url], ['/mcp/github', at('github'), `${url}/mcp/github`], ['/github/mcp', `${url}/github/mcp`, `${url}/mcp/github`], ['/mcp/weather', at('weather'), `${url}/mcp/weather`]]) {
      const prm = (await getJson(`${url}/.well-known/oauth-protected-resource${path}`)).body;
      equal([prm.resource, prm.authorization_servers], [resource, [issuer]], path);
    }
  });
  await stage.check('the directory lists six services, and no secret', async () => {
    const listed = await getJson(`${url}/services`);
    const text = JSON.stringify(listed.body);
    for (const name of ['github', 'legacy', 'weather', 'calculator', 'open', 'batch']) assert(text.includes(at(name)), `${name} is not listed: ${text}`);
    for (const secret of [FIXED, SECRET, fixed.url]) assert(!text.includes(secret), 'the directory says too much');
  });
  await stage.check('a revoked key is refused while the gateway runs', async () => {
    const list = execFileSync(gatewayBin, ['api-keys', 'list', ...line], { env: { ...process.env, ...env } }).toString();
    const id = list.split('\n').find((row) => row.includes('nightly'))?.trim().split(/\s+/)[0];
    assert(id, `no id in ${list}`);
    execFileSync(gatewayBin, ['api-keys', 'revoke', id, ...line], { env: { ...process.env, ...env } });
    for (let i = 0; ; i++) {
      if ((await rpc(at('batch'), key, 'tools/list')).status === 403) break;
      assert(i < 100, 'the key still works after ten seconds');
      await new Promise((r) => setTimeout(r, 100));
    }
  });
  await stage.check('no log holds a secret', async () => {
    const said = gateway.output();
    for (const secret of [FIXED, SECRET, PASSWORD, key, got.github.access_token]) assert(!said.includes(secret), 'a secret is in the log');
  });
  await gateway.end();
  return checked;
}

async function headersSeen(mcp, bearer, headers = {}) {
  const r = await rpc(mcp, bearer, 'tools/call', { name: 'echo_headers', arguments: {} }, headers);
  assert(r.status === 200, `echo_headers answered ${r.status} ${r.text.slice(0, 200)}`);
  return JSON.parse(r.body.result.content[0].text);
}

// The trusted backend: nginx, which passes on what it was told.
async function nginx(stage, upstream) {
  const port = await freePort();
  const dir = join(stage.dir, 'nginx');
  mkdirSync(dir);
  writeFileSync(join(dir, 'nginx.conf'), `
daemon off; pid ${dir}/pid; error_log stderr warn; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  underscores_in_headers on;
  server {
    listen 127.0.0.1:${port};
    location /health { return 200; }
    location / { proxy_pass ${upstream}; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Connection ""; }
  }
}
`);
  await stage.start('nginx', 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr'], { ready: `http://127.0.0.1:${port}/health` });
  return `http://127.0.0.1:${port}`;
}
