// What only the adapters do: the SDKs' verifiers, CommonJS, the cache's bound, unsafe options.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { OAuthError, requireBearerAuth } from '@modelcontextprotocol/server';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth as requireBearerAuthV1 } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { GatewayUnavailable, ResourceServer } from 'mcp-oauth-gateway';
import { tokenVerifier } from 'mcp-oauth-gateway/mcp';
import { tokenVerifier as tokenVerifierV1 } from 'mcp-oauth-gateway/mcp-v1';
import { NOW, SETUP, World, mint } from './support.mjs';

const fresh = (name) => mint(name, Math.floor(Date.now() / 1000));
const worldNow = (options) => new World({ clock: () => Date.now() / 1000, ...options });

test('the MCP SDK 2 accepts our tokens and refuses others', async () => {
  const world = worldNow();
  const verifier = tokenVerifier(world.server);
  const auth = requireBearerAuth({ verifier, requiredScopes: ['tracker:read'], expectedResource: new URL(SETUP.resource) });
  const request = (token) => new Request(SETUP.resource, { headers: { authorization: `Bearer ${token}` } });
  const good = await auth(request(await fresh('ok_jwt')));
  assert.equal(good.extra.sub, 'u_81');
  assert.equal((await auth(request(await fresh('aud_of_sibling')))).status, 401);
  await assert.rejects(verifier.verifyAccessToken(await fresh('iss_other')), (error) => error instanceof OAuthError);
  world.introspection = 'status_500';
  await assert.rejects(verifier.verifyAccessToken('opaque'), GatewayUnavailable);
});

test('the MCP SDK 1 accepts our tokens and refuses others', async () => {
  const world = worldNow();
  const verifier = tokenVerifierV1(world.server);
  await assert.rejects(verifier.verifyAccessToken(await fresh('bad_signature')), InvalidTokenError);
  const req = { headers: { authorization: `Bearer ${await fresh('ok_jwt')}` } };
  const refused = () => assert.fail('refused');
  await new Promise((resolve) => requireBearerAuthV1({ verifier, requiredScopes: ['tracker:read'] })(req, { set: refused, status: refused }, resolve));
  assert.equal(req.auth.clientId, 'c1');
});

test('the package can be required', () => {
  const required = createRequire(import.meta.url)('mcp-oauth-gateway');
  assert.equal(typeof required.ResourceServer, 'function');
  for (const adapter of ['hono', 'express', 'fastify']) assert.equal(typeof createRequire(import.meta.url)(`mcp-oauth-gateway/${adapter}`).protect, 'function');
});

test('the cache is bounded', async () => {
  const world = new World({ maxCachedTokens: 2 });
  world.introspection = 'active';
  for (const token of ['a', 'b', 'c', 'a']) await world.server.verifyToken(token);
  assert.equal(world.introspections, 4);
});

test('an endpoint of another origin gets no key', async () => {
  const fetch = async (url) => {
    assert.ok(url.startsWith('https://gw.example/'));
    return Response.json({ issuer: SETUP.issuer, introspection_endpoint: 'https://attacker.example/introspect' });
  };
  await assert.rejects(new World({ fetch }).server.verifyToken('opaque'), GatewayUnavailable);
});

test('unsafe options are refused', () => {
  const good = { issuer: SETUP.issuer, resource: SETUP.resource };
  for (const bad of [{ issuer: 'http://gw.example' }, { resource: `${SETUP.resource}?x=1` }, { algorithms: ['HS256'] }, { algorithms: ['none'] }, { algorithms: [] }])
    assert.throws(() => new ResourceServer({ ...good, ...bad }), TypeError);
  assert.ok(new ResourceServer({ ...good, issuer: 'http://127.0.0.1:8080/mcp/x' }), NOW);
});

test('a body beyond the limit is refused before it is read whole', async () => {
  const world = new World();
  const body = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1024 * 1024)) });
  const request = new Request(SETUP.resource, { method: 'POST', duplex: 'half', body, headers: { authorization: `Bearer ${await mint('ok_jwt')}`, 'content-type': 'application/json' } });
  assert.equal((await world.server.handle(request)).status, 413);
});
