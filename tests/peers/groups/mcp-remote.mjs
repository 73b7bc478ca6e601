// mcp-remote, the bridge that desktop hosts start: sign-in, calls, a streamed answer, and a second start that uses the
// tokens it stored.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { USER, PASSWORD, assert, equal, freePort } from '../lib/kit.mjs';
import { TEXT } from '../lib/mcp.mjs';
import { Bridge } from '../clients/stdio-bridge.mjs';

const program = createRequire(import.meta.url).resolve('mcp-remote/package.json').replace('package.json', 'dist/proxy.js');

export default async function mcpRemote(stage) {
  const as = await stage.authorizationServer();
  const up = await stage.mcpServer({ as });
  const gw = await stage.gateway(up.mcp);
  const callback = String(await freePort());
  const bridge = () => {
    const b = new Bridge(process.execPath, [program, gw.mcp, callback, '--host', '127.0.0.1', '--transport', 'http-only', '--allow-http'], { user: USER, password: PASSWORD, env: { MCP_REMOTE_CONFIG_DIR: join(stage.dir, 'mcp-remote') } });
    stage.defer(() => b.end());
    return b;
  };
  const simple = async (b) => equal((await b.rpc('tools/call', { name: 'test_simple_text', arguments: {} })).content?.[0]?.text, TEXT, 'tool call');

  const first = bridge();
  await stage.must('first start: signs in once', async () => {
    const r = await first.initialize();
    equal(r.serverInfo?.name, 'dual-era-upstream', 'server');
    equal(first.visits.length, 1, 'authorization URLs');
  });
  await stage.check('tool list and tool call', async () => {
    assert((await first.rpc('tools/list')).tools.length > 20, 'too few tools');
    await simple(first);
  });
  await stage.check('a streamed answer arrives piece by piece', async () => {
    first.notifications.length = 0;
    await first.rpc('tools/call', { name: 'slow_ticks', arguments: { n: 5, ms: 200 }, _meta: { progressToken: 'ticks' } });
    const ticks = first.notifications.filter((n) => n.method === 'notifications/progress');
    equal(ticks.length, 5, 'progress notifications');
    const spread = ticks.at(-1).at - ticks[0].at;
    assert(spread > 500, `all five came within ${spread} ms: they were held back`);
    const late = Math.max(...ticks.map((t) => t.at - Number(t.params.message)));
    assert(late < 500, `one came ${late} ms after it was sent`);
  });
  await first.end();

  const second = bridge();
  await stage.check('second start: uses the stored tokens, nobody signs in', async () => {
    await second.initialize();
    await simple(second);
    equal(second.visits, [], 'authorization URLs');
  });
  await second.end();
}
