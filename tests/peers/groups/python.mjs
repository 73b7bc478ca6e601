// The official Python client: signs in, calls, and refreshes when the pair has expired. The upstream's access tokens live
// for 16 s here, so a pair lives for 6 s. The client signs in again if a pair expires between its check and the call, so
// the calls stay away from that moment.
import { join } from 'node:path';
import { PASSWORD, ROOT, assert, equal, freePort, run } from '../lib/kit.mjs';

export default async function python(stage) {
  const as = await stage.authorizationServer({ ACCESS_TTL: '16' });
  const up = await stage.mcpServer({ as });
  const gw = await stage.gateway(up.mcp);
  for (const mode of ['auto', 'legacy']) {
    const out = await stage.must(`${mode}: login, three tool calls over an expiry`, async () => {
      const callback = `http://127.0.0.1:${await freePort()}/callback`;
      const r = await run(stage, `client-${mode}`, join(ROOT, '.venv/bin/python'), [join(ROOT, 'clients/python.py'), gw.mcp, '--mode', mode, '--redirect', callback, '--repeat', '3', '--every', '8'], { env: { PEERS_NODE: process.execPath, PEERS_PASSWORD: PASSWORD } });
      assert(r.stdout.startsWith('{'), r.output);
      const o = JSON.parse(r.stdout);
      assert(o.ok, `${JSON.stringify(o.error)} ${r.output.slice(0, 300)}`);
      equal(o.calls.length, 3, 'calls');
      return o;
    });
    await stage.check(`${mode}: one sign-in, and refreshed after`, async () => {
      const kinds = out.log.map((l) => l[0]);
      equal(kinds.filter((k) => k === 'authorize').length, 1, 'sign-ins');
      assert(kinds.filter((k) => k === 'tokens').length >= 2, `tokens were stored: ${JSON.stringify(out.log)}`);
    });
    await stage.check(`${mode}: speaks ${mode === 'auto' ? '2026-07-28' : '2025-11-25'}`, async () => equal(out.protocol, mode === 'auto' ? '2026-07-28' : '2025-11-25', 'protocol'));
  }
  await stage.check('the upstream pair was refreshed too', async () => {
    const n = (await as.log()).filter((e) => e.grant === 'refresh_token' && e.status === 200).length;
    assert(n >= 1, `${n} refreshes upstream`);
  });
}
