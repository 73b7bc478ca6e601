// The conformance suite of the protocol: its authorization mode against the gateway, and its server mode against the
// MCP server directly and again through the gateway, compared check by check.
import { createRequire } from 'node:module';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { USER, PASSWORD, assert, freePort, run, sleep } from '../lib/kit.mjs';
import { Browser } from '../lib/browser.mjs';
import { asMetadata, login, register } from '../lib/oauth.mjs';
import { startInjector } from '../pieces/bearer-injector.mjs';

const suite = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/package.json').replace('package.json', 'dist/index.js');

export default async function conformance(stage) {
  const as = await stage.authorizationServer({ ACCESS_TTL: '3600' });
  const up = await stage.mcpServer({ as });
  const gw = await stage.gateway(up.mcp);
  await authorization(stage, gw);
  // The same server without authorization is what the suite's server mode can reach by itself.
  const direct = await stage.mcpServer({ name: 'upstream-direct' });
  await server(stage, direct, gw);
}

function checksIn(dir) {
  const files = readdirSync(dir, { recursive: true }).filter((f) => f.endsWith('checks.json')).sort();
  return files.flatMap((f) => JSON.parse(readFileSync(join(dir, f), 'utf8')).map((c) => ({ scenario: f.split('/')[0].replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, ''), ...c })));
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
  const rank = { FAILURE: 3, WARNING: 2, SUCCESS: 1, SKIPPED: 0, INFO: 0 };
  for (const version of ['2026-07-28', '2025-11-25']) {
    const once = async (kind, url) => {
      const out = join(stage.logs, `server-${version}-${kind}`);
      mkdirSync(out, { recursive: true });
      await run(stage, `suite-server-${version}-${kind}`, process.execPath, [suite, 'server', '--url', url, '--requirements', version, '-o', out]);
      const worst = new Map(); // a check may be reported more than once in a scenario
      for (const c of checksIn(out)) { const k = `${c.scenario}: ${c.id}`; if (!worst.has(k) || rank[c.status] > rank[worst.get(k).status]) worst.set(k, c); }
      return worst;
    };
    await stage.check(`server ${version}: every check as without the gateway`, async () => {
      // One after the other: the server has one change feed, and two suites on it would hear each other.
      const d = await once('direct', direct.mcp);
      const g = await once('gateway', `http://127.0.0.1:${port}/mcp`);
      const passed = [...d.values()].filter((c) => c.status === 'SUCCESS').length;
      assert(passed >= 80, `only ${passed} checks pass without the gateway`);
      // The server here has no tasks: an extension, which the suite runs and does not score. It fails the same both ways.
      const lacking = [...d].filter(([, c]) => c.status === 'FAILURE' && !c.scenario.startsWith('tasks-'));
      assert(!lacking.length, `fails without the gateway: ${lacking.map(([k]) => k)}`);
      const differ = [...new Set([...d.keys(), ...g.keys()])].filter((k) => (d.get(k)?.status ?? 'absent') !== (g.get(k)?.status ?? 'absent'));
      assert(!differ.length, differ.map((k) => `${k}: ${d.get(k)?.status ?? 'absent'} directly, ${g.get(k)?.status ?? 'absent'} through the gateway ${g.get(k)?.errorMessage ?? ''}`).join('\n'));
      console.log(`     ${d.size} checks compared, ${passed} pass on both sides, ${[...d.values()].filter((c) => c.status === 'FAILURE').length} fail on both (the unscored tasks extension, which this server lacks)`);
    }, { timeout: 600_000 });
  }
}
