// The gateway of the tests, the tokens of cases.json, and one driver per adapter.
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { CompactSign, exportJWK, exportSPKI, generateKeyPair } from 'jose';
import { ResourceServer } from 'mcp-oauth-gateway';
import { protect as express } from 'mcp-oauth-gateway/express';
import { protect as fastify } from 'mcp-oauth-gateway/fastify';
import { protect as hono } from 'mcp-oauth-gateway/hono';

export const CASES = JSON.parse(readFileSync(new URL('../../cases.json', import.meta.url), 'utf8'));
export const SETUP = CASES.setup;
export const NOW = 1_796_000_000;
const GATEWAY = 'https://gw.example';

const keys = {};
for (const name of ['k1', 'k2', 'other']) {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
  keys[name] = { privateKey, pem: await exportSPKI(publicKey), jwk: { ...(await exportJWK(publicKey)), kid: name, alg: 'ES256', use: 'sig' } };
}

export function filled(value) {
  if (typeof value === 'string' && value.startsWith('$')) return value === '$other_public' ? keys.other.jwk : SETUP[value.slice(1)];
  if (Array.isArray(value)) return value.map(filled);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filled(v)]));
  return value;
}

const present = (object) => Object.fromEntries(Object.entries(object).filter(([, v]) => v !== null));
const times = (claims, now) => Object.fromEntries(Object.entries(claims).map(([k, v]) => [k, ['exp', 'iat', 'nbf'].includes(k) && typeof v === 'number' ? now + v : v]));
const b64 = (text) => Buffer.from(text).toString('base64url');

export async function mint(name, now = NOW) {
  const fixture = CASES.tokens[name];
  if (fixture.text !== undefined) return fixture.text;
  if (fixture.repeat !== undefined) return fixture.repeat.repeat(fixture.times);
  const header = filled(present({ ...CASES.jwt.header, ...fixture.header }));
  const claims = times(filled(present({ ...CASES.jwt.claims, ...fixture.claims })), now);
  const sign = fixture.sign ?? 'k1';
  const signed = `${b64(JSON.stringify(header))}.${b64(JSON.stringify(claims))}`;
  if (sign === 'none') return `${signed}.`;
  if (sign === 'hs256_public_key') return `${signed}.${createHmac('sha256', keys.k1.pem).update(signed).digest('base64url')}`;
  const { crit, ...plain } = header;
  if (!crit) return new CompactSign(Buffer.from(JSON.stringify(claims))).setProtectedHeader(plain).sign(keys[sign].privateKey);
  const raw = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, keys[sign].privateKey, Buffer.from(signed));
  return `${signed}.${Buffer.from(raw).toString('base64url')}`;
}

/** A protected server, its gateway, and a clock. */
export class World {
  now = NOW;
  jwks = ['k1'];
  introspection = undefined;
  fetches = 0;
  introspections = 0;
  reached = 0;
  log = '';

  constructor(options = {}) {
    this.server = new ResourceServer({
      issuer: SETUP.issuer,
      resource: SETUP.resource,
      key: SETUP.key,
      requiredScopes: SETUP.required_scopes,
      toolScopes: SETUP.tool_scopes,
      routeScopes: SETUP.route_scopes,
      publicPaths: SETUP.public_paths,
      timeoutMs: 300,
      fetch: (url, init) => this.fetch(url, init),
      warn: (message, fields) => { this.log += JSON.stringify([message, fields]); },
      clock: () => this.now,
      ...options,
    });
  }

  async fetch(url, init) {
    if (!url.startsWith(`${GATEWAY}/`)) throw new Error(`a request to ${url}`);
    if (url === `${GATEWAY}/.well-known/oauth-authorization-server/mcp/tracker`)
      return Response.json({ issuer: SETUP.issuer, jwks_uri: `${GATEWAY}/.well-known/jwks.json`, introspection_endpoint: `${GATEWAY}/introspect/mcp/tracker` });
    if (url === `${GATEWAY}/.well-known/jwks.json`) {
      this.fetches++;
      if (this.jwks === 'refused') throw new TypeError('refused');
      return Response.json({ keys: this.jwks.map((name) => keys[name].jwk) });
    }
    const form = new URLSearchParams(init.body);
    if (init.headers.authorization !== `Bearer ${SETUP.key}` || [...form.keys()].join() !== 'token,token_type_hint') throw new Error('not an introspection request');
    this.introspections++;
    const fixture = CASES.introspection[this.introspection];
    if (!fixture) throw new Error('the gateway was asked about a token');
    return this.#answer(fixture, init);
  }

  async #answer(fixture, init) {
    if (fixture.refused) throw new TypeError('refused');
    if (fixture.hang) return new Promise((_, reject) => init.signal.addEventListener('abort', () => reject(new Error('aborted'))));
    if (fixture.json !== undefined) {
      const body = filled(fixture.json);
      await new Promise((resolve) => setTimeout(resolve, 10));
      return Response.json(Array.isArray(body) ? body : times(body, this.now));
    }
    if (fixture.location) {
      // What fetch does: follow, unless it is told not to.
      if (init.redirect !== 'manual') return Response.json(filled(CASES.introspection.active.json));
      return new Response(null, { status: fixture.status, headers: { location: fixture.location } });
    }
    return new Response(fixture.repeat?.repeat(fixture.times) ?? fixture.text, { status: fixture.status, headers: { 'content-type': fixture.type } });
  }
}

/** Each driver starts an application behind the middleware, and returns `send(request)` and `close()`. */
export const DRIVERS = {
  async web(world) {
    return {
      close: async () => undefined,
      async send({ method, target, headers, body }) {
        const request = new Request(`https://rs.example${target}`, { method, headers, ...(method === 'POST' && { body }) });
        const result = await world.server.handle(request);
        if (!(result instanceof Response)) {
          world.reached++;
          if (method === 'POST') await request.text();
          return { status: method === 'OPTIONS' ? 204 : 200, headers: {}, body: '' };
        }
        return { status: result.status, headers: Object.fromEntries(result.headers), body: await result.text() };
      },
    };
  },
  async hono(world) {
    const { Hono } = await import('hono');
    const { serve } = await import('@hono/node-server');
    const app = new Hono();
    app.use(hono(world.server));
    app.all('*', async (c) => {
      world.reached++;
      if (c.req.method === 'POST') await c.req.raw.text();
      return c.body(null, c.req.method === 'OPTIONS' ? 204 : 200);
    });
    return listening((port) => new Promise((resolve) => { const s = serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, () => resolve(s)); }));
  },
  async express(world) {
    const { default: create } = await import('express');
    const app = create();
    app.use(express(world.server));
    app.use(create.json());
    app.use((req, res) => {
      world.reached++;
      res.status(req.method === 'OPTIONS' ? 204 : 200).end();
    });
    return listening((port) => new Promise((resolve) => { const s = app.listen(port, '127.0.0.1', () => resolve(s)); }));
  },
  async expressAfterJson(world) {
    const { default: create } = await import('express');
    const app = create();
    app.use(create.json());
    app.use(express(world.server));
    app.use((req, res) => {
      world.reached++;
      res.status(req.method === 'OPTIONS' ? 204 : 200).end();
    });
    return listening((port) => new Promise((resolve) => { const s = app.listen(port, '127.0.0.1', () => resolve(s)); }));
  },
  async fastify(world) {
    const { default: create } = await import('fastify');
    const app = create();
    app.addContentTypeParser('application/x-www-form-urlencoded', (_, body, done) => { body.resume(); done(null, undefined); });
    await app.register(fastify(world.server));
    app.all('/*', async (request, reply) => {
      world.reached++;
      return reply.code(request.method === 'OPTIONS' ? 204 : 200).send();
    });
    return listening(async (port) => { await app.listen({ port, host: '127.0.0.1' }); return app.server; });
  },
};

async function listening(start) {
  const server = await start(0);
  const { port } = server.address();
  return {
    close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }),
    send: ({ method, target, headers, body }) => new Promise((resolve, reject) => {
      const req = httpRequest({ host: '127.0.0.1', port, method, path: target, setDefaultHeaders: false, headers: ['host', 'rs.example', ...headers.flat(), 'connection', 'close', ...(method === 'POST' ? ['content-length', String(Buffer.byteLength(body))] : [])] }, (res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part) => { text += part; }).on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: text }));
      });
      req.on('error', reject);
      req.end(method === 'POST' ? body : undefined);
    }),
  };
}
