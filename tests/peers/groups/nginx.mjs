// The gateway behind nginx, by deploy/nginx.conf itself: its names, ports and certificates are filled in, nothing else. Once at
// a host of its own, once below the path /gw of another one.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, equal, run } from '../lib/kit.mjs';
import { behind, ports } from '../lib/behind.mjs';
import { filled } from '../lib/nginx.mjs';

export default async function nginx(stage) {
  await stage.check('nginx takes the file with its TLS lines', async () => {
    const dir = await filled(stage, 'tls', await ports(), { tls: true });
    const r = await run(stage, 'nginx-t', 'nginx', ['-t', '-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr']);
    equal(r.code, 0, `nginx -t: ${r.output}`);
  });
  const upstream = await stage.mcpServer({ as: await stage.authorizationServer() });
  for (const form of ['root', 'prefix']) await one(stage, form, upstream);
}

async function one(stage, form, upstream) {
  let dir;
  const b = await behind(stage, form, upstream, async (at, ready) => {
    dir = await filled(stage, form, at);
    await stage.start(`nginx-${form}`, 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr'], { ready });
  });
  await b.check('the access log holds no code, no state and no token', async () => {
    const log = readFileSync(join(dir, 'access.log'), 'utf8');
    assert(log.includes(`POST ${b.prefix}/mcp`) && log.includes(`GET ${b.prefix}/upstream/callback`), `the log lacks requests: ${log.slice(0, 300)}`);
    for (const line of log.split('\n')) assert(!/[?]|code=|state=|Bearer/.test(line), line);
  });
  await b.gateway.end();
}
