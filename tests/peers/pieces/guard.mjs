// Puts authorization in front of an MCP server that has none: demands a bearer token that the authorization server
// calls active, serves the protected resource metadata, and forwards everything else as it came.
//   PORT=9301 TARGET=http://127.0.0.1:3001 AS=http://127.0.0.1:9400 [INTROSPECT_CLIENT=id:secret] node tests/peers/pieces/guard.mjs
import { createServer, request } from 'node:http';

const { PORT, TARGET, AS, INTROSPECT_CLIENT = 'gateway:gateway-secret-for-tests-only' } = process.env;
const base = `http://127.0.0.1:${PORT}`;
const resource = `${base}/mcp`;
const metadata = '/.well-known/oauth-protected-resource';
const target = new URL(TARGET);
let introspection;

async function active(token) {
  introspection ??= (await (await fetch(`${AS}/.well-known/oauth-authorization-server`)).json()).introspection_endpoint;
  const r = await fetch(introspection, { method: 'POST', headers: { authorization: `Basic ${Buffer.from(INTROSPECT_CLIENT).toString('base64')}` }, body: new URLSearchParams({ token }) });
  const t = await r.json();
  // A refresh token is "active" too, but only access tokens have a token_type.
  return t.active && /^bearer$/i.test(t.token_type ?? '') && [].concat(t.aud ?? []).includes(resource);
}

createServer(async (req, res) => {
  const path = new URL(req.url, base).pathname;
  if (path.startsWith(metadata)) {
    res.writeHead(200, { 'content-type': 'application/json' });
    return res.end(JSON.stringify({ resource, authorization_servers: [AS], scopes_supported: ['mcp:tools'], bearer_methods_supported: ['header'] }));
  }
  const token = /^Bearer (\S+)$/i.exec(req.headers.authorization ?? '')?.[1];
  if (!token || !(await active(token).catch(() => false))) {
    res.writeHead(401, { 'www-authenticate': `Bearer resource_metadata="${base}${metadata}/mcp"${token ? ', error="invalid_token"' : ''}, scope="mcp:tools"` });
    return res.end();
  }
  const headers = { ...req.headers, host: target.host };
  delete headers.authorization;
  const up = request(target, { method: req.method, path: req.url, headers }, (r) => {
    res.writeHead(r.statusCode, r.headers);
    res.flushHeaders();
    r.pipe(res);
  });
  up.on('error', () => { if (res.headersSent) res.destroy(); else { res.writeHead(502); res.end(); } });
  res.on('close', () => up.destroy());
  req.pipe(up);
}).listen(Number(PORT), '127.0.0.1', () => console.log(`ready ${base} -> ${TARGET}`));
