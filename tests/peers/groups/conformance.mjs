// The conformance suite of the protocol: its authorization mode against the gateway, and its server mode against the
// MCP server directly and again through the gateway, compared check by check.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { USER, PASSWORD, assert, freePort, sleep } from '../lib/kit.mjs';
import { Browser } from '../lib/browser.mjs';
import { checksIn, compareServer, suite } from '../lib/conformance.mjs';
import { asMetadata, login, register } from '../lib/oauth.mjs';
import { startInjector } from '../pieces/bearer-injector.mjs';

export default async function conformance(stage) {
  const as = await stage.authorizationServer({ ACCESS_TTL: '3600' });
  const up = await stage.mcpServer({ as });
  const gw = await stage.gateway(up.mcp);
  await authorization(stage, gw);
  // The same server without authorization is what the suite's server mode can reach by itself.
  const direct = await stage.mcpServer({ name: 'upstream-direct' });
  await server(stage, direct, gw);
}

// The suite prints the URL a person would open, and waits for the redirect: the scripted browser is that person.
async function authorization(stage, gw) {
  const out = join(stage.logs, 'authorization');
  mkdirSync(out, { recursive: true });
  const port = await freePort();
  let browser = 'the suite printed no authorization URL';
  try {
    const md = await asMetadata(gw.url);
    const client = await register(md, { client_name: 'conformance', redirect_uris: [`http://127.0.0.1:${port}/callback`] });
    assert(client.body?.client_id, `registration answered ${client.status} ${client.text}`);
    const h = await stage.start('suite-authorization', process.execPath, [suite, 'authorization', '--url', gw.url, '--client-id', client.body.client_id, '--port', String(port), '--resource', gw.mcp, '--output-dir', out]);
    const exit = h.exited.then(() => true);
    let visited = false;
    for (const until = Date.now() + 90_000; Date.now() < until && !(await Promise.race([exit, sleep(50)]));) {
      const m = !visited && /^(https?:\/\/\S*[?&]response_type=code\S*)$/m.exec(h.output());
      if (!m) continue;
      visited = true;
      const b = new Browser({ user: USER, password: PASSWORD });
      const r = await b.run(m[1]).catch((e) => ({ finalUrl: String(e) }));
      browser = `the browser ended at ${r.finalUrl.split('?')[0]} after ${b.trace.length} steps`;
      if (!r.finalUrl.startsWith(`http://127.0.0.1:${port}/`)) { browser += `: ${(r.body ?? '').replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').slice(0, 200)}`; await h.end(); }
    }
    await h.end();
  } catch (e) { stage.report('authorization: the suite runs', e); return; }
  const checks = checksIn(out);
  if (!checks.length) { stage.report('authorization: the suite reports', new Error(browser)); return; }
  for (const c of checks) stage.report(`authorization: ${c.id} (${c.status.toLowerCase()})`, ['FAILURE', 'WARNING'].includes(c.status) ? new Error(`${c.errorMessage ?? c.description ?? ''}; ${browser}`) : undefined);
}

async function server(stage, direct, gw) {
  const s = await stage.must('server: login', () => login(gw.mcp, { user: USER, password: PASSWORD }));
  const port = await freePort();
  const injector = await startInjector({ listen: port, target: gw.url, token: () => s.tokens.access_token });
  stage.defer(() => { injector.close(); injector.closeAllConnections(); });
  await compareServer(stage, { direct: direct.mcp, through: `http://127.0.0.1:${port}/mcp`, as: 'without the gateway', by: 'through the gateway' });
}
