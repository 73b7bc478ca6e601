// Drives the gateway binary with real peers, from outside: tests/peers/run.sh [group ...]
//   GATEWAY_BIN=path   the binary (default target/release/mcp-oauth-gateway)
// Prints a line per check and at the end "N passed, N failed"; the exit code is 1 when anything failed. The output of
// everything it started is in out/<group>/*.log.
import { Stage, Stop } from './lib/kit.mjs';

const all = ['conformance', 'oidc', 'everything', 'python', 'adapters', 'mcp-remote', 'bun', 'services', 'nginx', 'caddy', 'systemd', 'containers', 'replicas', 'replicas-none', 'resource-servers', 'chromium'];
const groups = process.argv.slice(2).length ? process.argv.slice(2) : all;
const unknown = groups.filter((g) => !all.includes(g));
if (unknown.length) { console.error(`no such group: ${unknown.join(', ')} (there are: ${all.join(', ')})`); process.exit(2); }

let stage;
const results = [];
let leaving = false;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, async () => { if (leaving) return; leaving = true; await stage?.close(); process.exit(130); });

for (const g of groups) {
  const from = Date.now();
  stage = new Stage(g);
  console.log(`== ${g}`);
  try { await (await import(`./groups/${g}.mjs`)).default(stage); }
  catch (e) { if (!(e instanceof Stop)) stage.report('the group runs to its end', e?.stack ? new Error(e.stack) : e); }
  finally { await stage.close(); }
  if (leaving) process.exit(130);
  if (!stage.results.length && !stage.skipped) stage.report('the group has checks', new Error('none ran'));
  results.push(...stage.results);
  console.log(`   ${((Date.now() - from) / 1000).toFixed(1)} s`);
}
const failed = results.filter((r) => !r.ok).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
