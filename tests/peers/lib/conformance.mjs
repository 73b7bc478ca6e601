// The conformance suite of the protocol in its server mode: one MCP server directly, and again behind what is tested.
import { createRequire } from 'node:module';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, run } from './kit.mjs';

export const suite = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/package.json').replace('package.json', 'dist/index.js');

// The checks that a run of the suite wrote into this folder.
export function checksIn(dir) {
  const files = readdirSync(dir, { recursive: true }).filter((f) => f.endsWith('checks.json')).sort();
  return files.flatMap((f) => JSON.parse(readFileSync(join(dir, f), 'utf8')).map((c) => ({ scenario: f.split('/')[0].replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, ''), ...c })));
}

// Compares the suite's checks of the server at `direct` with those at `through`; `as` and `by` name the two in messages.
export async function compareServer(stage, { direct, through, as, by, tag = 'gateway' }) {
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
    await stage.check(`server ${version}: every check as ${as}`, async () => {
      // One after the other: the server has one change feed, and two suites on it would hear each other.
      const d = await once('direct', direct);
      const g = await once(tag, through);
      const passed = [...d.values()].filter((c) => c.status === 'SUCCESS').length;
      assert(passed >= 80, `only ${passed} checks pass ${as}`);
      // The server here has no tasks: an extension, which the suite runs and does not score. It fails the same both ways.
      const lacking = [...d].filter(([, c]) => c.status === 'FAILURE' && !c.scenario.startsWith('tasks-'));
      assert(!lacking.length, `fails ${as}: ${lacking.map(([k]) => k)}`);
      const differ = [...new Set([...d.keys(), ...g.keys()])].filter((k) => (d.get(k)?.status ?? 'absent') !== (g.get(k)?.status ?? 'absent'));
      assert(!differ.length, differ.map((k) => `${k}: ${d.get(k)?.status ?? 'absent'} directly, ${g.get(k)?.status ?? 'absent'} ${by} ${g.get(k)?.errorMessage ?? ''}`).join('\n'));
      console.log(`     ${d.size} checks compared, ${passed} pass on both sides, ${[...d.values()].filter((c) => c.status === 'FAILURE').length} fail on both (the unscored tasks extension, which this server lacks)`);
    }, { timeout: 600_000 });
  }
}
