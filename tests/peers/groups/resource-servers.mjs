// MCP servers that the gateway does not proxy, behind the packages of sdk/, each built and installed from the built file into a
// fresh environment: FastAPI, FastMCP (examples/filesystem-server), the MCP Python SDK, Hono with the MCP TypeScript SDK
// (examples/typescript-server), Express and Fastify. Half of them have JWTs, half opaque tokens. At the end the conformance
// suite compares an MCP server behind the middleware with the same server alone.
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PASSWORD, ROOT, USER, assert, equal, freePort, gatewayBin, run } from '../lib/kit.mjs';
import { compareServer } from '../lib/conformance.mjs';
import { form, login as flow, parseChallenge } from '../lib/oauth.mjs';
import { connect } from '../clients/ts.mjs';
import { startInjector } from '../pieces/bearer-injector.mjs';

const SIGNED_IN = { user: USER, password: PASSWORD };
const login = (url, o) => flow(url, { ...SIGNED_IN, ...o });
const SDK = resolve(ROOT, '../../sdk');
const EXAMPLES = resolve(ROOT, '../../examples');
const KINDS = { fastapi: 'jwt', fastmcp: 'jwt', mcpsdk: 'opaque', hono: 'opaque', express: 'opaque', fastify: 'jwt' };
const NPM = ['hono@4.13.19', '@hono/node-server@2.1.9', 'express@5.3.0', 'fastify@5.12.8', '@modelcontextprotocol/server@2.4.0', 'zod@4', 'jose@6.2.18'];
const PIP = ['fastapi==0.165.0', 'uvicorn==0.54.0', 'fastmcp==4.2.3', 'mcp==2.3.0'];

export default async function resourceServers(stage) {
  const py = join(stage.dir, 'py');
  const js = join(stage.dir, 'js');
  const ok = async (name, command, args, o = {}) => {
    const r = await run(stage, name, command, args, { timeout: 300_000, ...o });
    assert(r.code === 0, `${command} ${args.join(' ')}: ${r.output.slice(-600)}`);
    return r;
  };
  await stage.must('the Python package is built, and installed from the wheel into a fresh environment', async () => {
    await ok('venv', 'python3', ['-m', 'venv', py]);
    await ok('wheel', join(py, 'bin/pip'), ['wheel', '-q', '--no-deps', '-w', stage.dir, join(SDK, 'python')]);
    const wheel = readdirSync(stage.dir).find((name) => name.endsWith('.whl'));
    await ok('pip', join(py, 'bin/pip'), ['install', '-q', join(stage.dir, wheel), ...PIP]);
  }, { timeout: 600_000 });
  await stage.must('the npm package is built, and installed from the packed file into a fresh folder', async () => {
    await ok('npm-ci', 'npm', ['ci', '--silent', '--no-audit', '--no-fund', '--prefix', join(SDK, 'typescript')]);
    await ok('npm-pack', 'npm', ['pack', '--silent', join(SDK, 'typescript'), '--pack-destination', stage.dir]);
    const packed = readdirSync(stage.dir).find((name) => name.endsWith('.tgz'));
    mkdirSync(js);
    writeFileSync(join(js, 'package.json'), '{"private":true,"type":"module"}');
    await ok('npm-install', 'npm', ['install', '--silent', '--no-audit', '--no-fund', '--prefix', js, join(stage.dir, packed), ...NPM]);
    for (const piece of ['resource-server.mjs', 'resource-middleware.mjs']) copyFileSync(join(ROOT, 'pieces', piece), join(js, piece));
    copyFileSync(join(EXAMPLES, 'typescript-server/server.ts'), join(js, 'server.ts'));
  }, { timeout: 600_000 });

  const servers = {};
  for (const [kind, mode] of Object.entries(KINDS)) servers[kind] = { mode, url: `http://127.0.0.1:${await freePort()}/mcp`, read: kind === 'fastmcp' ? 'files:read' : kind === 'hono' ? 'notes:read' : 'read', write: kind === 'fastmcp' ? 'files:write' : kind === 'hono' ? 'notes:write' : 'write' };
  const suitePort = await freePort();
  const suiteUrl = `http://127.0.0.1:${suitePort}/mcp`;
  const services = Object.entries(servers).map(([kind, s]) => `[services.${kind}]\naccess = "introspect"\nresource = "${s.url}"\ntoken_mode = "${s.mode}"\nscopes = ["${s.read}"]\noptional_scopes = ["${s.write}", "openid"]\n`);
  services.push(`[services.suite]\naccess = "introspect"\nresource = "${suiteUrl}"\ntoken_mode = "opaque"\nscopes = ["read"]\n`);
  const gw = await stage.configured(await freePort(), services.join('\n'));
  const gateway = await gw.start();
  for (const [kind, s] of Object.entries(servers)) {
    await stage.must(`${kind}: a command makes the key of the server, which starts`, async () => {
      const made = await run(stage, `key-${kind}`, gatewayBin, ['servers', 'keys', 'add', kind, '--json', ...gw.line], { env: gw.env });
      s.key = JSON.parse(made.stdout).key_secret;
      assert(/^sk_/.test(s.key), made.output);
      const env = { ISSUER: `${gw.url}/mcp/${kind}`, GATEWAY_ISSUER: `${gw.url}/mcp/${kind}`, RESOURCE: s.url, KEY: s.key, MCP_GATEWAY_SERVER_KEY: s.key, PORT: new URL(s.url).port, FILES_ROOT: join(stage.dir, 'files') };
      const ready = `${new URL(s.url).origin}/.well-known/oauth-protected-resource/mcp`;
      const start = { fastapi: [join(py, 'bin/python'), [join(ROOT, 'pieces/resource-server.py'), 'fastapi']], mcpsdk: [join(py, 'bin/python'), [join(ROOT, 'pieces/resource-server.py'), 'mcp']], fastmcp: [join(py, 'bin/python'), [join(EXAMPLES, 'filesystem-server/server.py')]], hono: [process.execPath, ['--experimental-strip-types', join(js, 'server.ts')]], express: [process.execPath, [join(js, 'resource-server.mjs'), 'express']], fastify: [process.execPath, [join(js, 'resource-server.mjs'), 'fastify']] }[kind];
      s.run = await stage.start(kind, start[0], start[1], { env, ready, timeout: 40_000 });
    });
  }

  const rpc = (s, token, tool, args = {}) => fetch(s.url, { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-06-18', ...(token && { authorization: `Bearer ${token}` }) }, body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: tool, arguments: args } }) });
  const TOOL = { fastmcp: ['write_file', { path: 'a.txt', text: 'hello' }], hono: ['add_note', { text: 'hello' }] };
  const introspect = (s, token) => form(`${gw.url}/introspect`, { token }, { authorization: `Bearer ${s.key}` });
  for (const [kind, s] of Object.entries(servers)) {
    const [tool, args] = TOOL[kind] ?? ['write_file', { path: 'a.txt', text: 'hello' }];
    await stage.check(`${kind}: sign-in, step-up, a call, and a sibling's token is refused`, async () => {
      const none = await rpc(s, undefined, tool, args);
      equal(none.status, 401, 'without a token');
      const first = parseChallenge(none.headers.get('www-authenticate'));
      assert(first.error === undefined && first.resource_metadata && first.scope === s.read, JSON.stringify(first));
      const narrow = await login(s.url, { scope: s.read });
      const step = await rpc(s, narrow.tokens.access_token, tool, args);
      equal(step.status, 403, 'without the scope');
      const challenge = parseChallenge(step.headers.get('www-authenticate'));
      equal(challenge.scope, `${s.read} ${s.write}`, 'all scopes');
      s.session = await login(s.url, { scope: challenge.scope, client: narrow.client });
      const done = await rpc(s, s.session.tokens.access_token, tool, args);
      const text = await done.text();
      equal(done.status, 200, text.slice(0, 300));
      assert(text.includes('alice'), text.slice(0, 300));
      equal((await rpc(s, narrow.tokens.access_token, tool, args)).status, 403, 'the earlier token');
      const sibling = Object.values(servers).find((other) => other !== s && other.session);
      if (sibling) equal((await rpc(s, sibling.session.tokens.access_token, tool, args)).status, 401, 'a token of another server');
      equal((await rpc(s, s.session.tokens.refresh_token, tool, args)).status, 401, 'the refresh token');
    });
    await stage.check(`${kind}: a revoked token is not active at once, and the server refuses it`, async () => {
      const other = await login(s.url, { scope: `${s.read} ${s.write}` });
      equal((await introspect(s, other.tokens.access_token)).body.active, true, 'before');
      equal((await form(`${gw.url}/revoke/mcp/${kind}`, { token: other.tokens.access_token, client_id: other.client.client_id })).status, 200, 'revocation');
      equal(JSON.stringify((await introspect(s, other.tokens.access_token)).body), '{"active":false}', 'after');
      if (s.mode === 'opaque') equal((await rpc(s, other.tokens.access_token, tool, args)).status, 401, 'at the server');
    });
  }
  for (const [kind, tool] of [['fastmcp', 'list_files'], ['hono', 'list_notes'], ['mcpsdk', 'list_files']]) {
    await stage.check(`${kind}: the TypeScript client signs in at the gateway and calls the server directly`, async () => {
      const redirect = `http://127.0.0.1:${await freePort()}/callback`;
      const { client } = await connect(servers[kind].url, { redirect, ...SIGNED_IN });
      const called = await client.callTool({ name: tool, arguments: {} });
      assert(!called.isError, JSON.stringify(called));
      await client.close();
    });
  }
  await stage.check('PyJWT and jose verify a token and a signed introspection', async () => {
    const s = servers.fastify;
    const signed = await (await fetch(`${gw.url}/introspect`, { method: 'POST', headers: { authorization: `Bearer ${s.key}`, accept: 'application/token-introspection+jwt', 'content-type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams({ token: s.session.tokens.access_token }) })).text();
    const jwks = `${gw.url}/.well-known/jwks.json`;
    const python = `import jwt,sys\nkeys=jwt.PyJWKClient(sys.argv[1])\nfor token,typ in ((sys.argv[2],'at+jwt'),(sys.argv[3],'token-introspection+jwt')):\n c=jwt.decode(token,keys.get_signing_key_from_jwt(token).key,algorithms=['ES256'],audience=sys.argv[4],issuer=sys.argv[5])\n assert jwt.get_unverified_header(token)['typ']==typ\nassert c['token_introspection']['active'] is True\n`;
    const issuer = `${gw.url}/mcp/fastify`;
    await ok('pyjwt', join(py, 'bin/python'), ['-c', python, jwks, s.session.tokens.access_token, signed, s.url, issuer]);
    const script = `import { createRemoteJWKSet, jwtVerify } from 'jose';\nconst [jwks, access, signed, audience, issuer] = process.argv.slice(2);\nconst keys = createRemoteJWKSet(new URL(jwks));\nawait jwtVerify(access, keys, { audience, issuer, typ: 'at+jwt' });\nconst { payload } = await jwtVerify(signed, keys, { audience, issuer, typ: 'token-introspection+jwt' });\nif (payload.token_introspection.active !== true) process.exit(1);\n`;
    writeFileSync(join(js, 'verify.mjs'), script);
    await ok('jose', process.execPath, [join(js, 'verify.mjs'), jwks, s.session.tokens.access_token, signed, s.url, issuer]);
  });
  const session = await stage.must('suite: the MCP server of the conformance suite starts behind the middleware', async () => {
    const made = await run(stage, 'key-suite', gatewayBin, ['servers', 'keys', 'add', 'suite', '--json', ...gw.line], { env: gw.env });
    const env = { MIDDLEWARE: join(js, 'resource-middleware.mjs'), ISSUER: `${gw.url}/mcp/suite`, RESOURCE: suiteUrl, KEY: JSON.parse(made.stdout).key_secret, PORT: suitePort };
    await stage.piece('suite-guarded', 'upstream.mjs', env);
    equal((await fetch(suiteUrl, { method: 'POST', body: '{}' })).status, 401, 'without a token');
    return login(suiteUrl, { scope: 'read' });
  });
  // The suite cannot send a token.
  const injected = await freePort();
  const injector = await startInjector({ listen: injected, target: `http://127.0.0.1:${suitePort}`, token: () => session.tokens.access_token });
  stage.defer(() => { injector.close(); injector.closeAllConnections(); });
  const alone = await stage.mcpServer({ name: 'suite-alone' });
  await compareServer(stage, { direct: alone.mcp, through: `http://127.0.0.1:${injected}/mcp`, as: 'without the middleware', by: 'behind the middleware', tag: 'middleware' });

  await stage.check('without the gateway, JWTs still work, and an unknown opaque token is a 503', async () => {
    const fresh = {};
    for (const [kind, s] of Object.entries(servers)) if (s.mode === 'opaque') fresh[kind] = (await login(s.url, { scope: s.read })).tokens.access_token;
    await gateway.end();
    for (const [kind, s] of Object.entries(servers)) {
      const [tool, args] = TOOL[kind] ?? ['write_file', { path: 'a.txt', text: 'hello' }];
      if (s.mode === 'jwt') equal((await rpc(s, s.session.tokens.access_token, tool, args)).status, 200, kind);
      else {
        const away = await rpc(s, fresh[kind], tool, args);
        equal(away.status, 503, kind);
        assert(away.headers.get('retry-after') && !away.headers.get('www-authenticate'), kind);
      }
    }
  });
}
