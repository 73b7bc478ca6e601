// Bun, the runtime of Claude Code, OpenCode and Cline, in front of `--tls self-signed`. Its BoringSSL refuses an IP address in a certificate
// under a CA with constraints of addresses, so it sees whether the gateway sends a certificate with names only.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { PASSWORD, ROOT, USER, assert, equal, freePort, gatewayBin, run } from '../lib/kit.mjs';

const bun = createRequire(import.meta.url).resolve('bun/package.json').replace('package.json', 'bin/bun.exe');
const client = join(ROOT, 'clients/bun.mjs');

export default async function group(stage) {
  const port = await freePort();
  const url = `https://localhost:${port}`;
  const as = await stage.authorizationServer({ DCR: '0', GATEWAY_REDIRECTS: `${url}/upstream/callback` });
  const up = await stage.mcpServer({ as });
  const data = join(stage.dir, 'data');
  const line = ['--upstream-rs', up.mcp, '--host', '127.0.0.1', '--port', String(port), '--public-url', url, '--data-dir', data, '--tls', 'self-signed', '--upstream-client-id', 'gateway', '--upstream-client-secret', 'gateway-secret-for-tests-only'];
  await stage.start('gateway', gatewayBin, line, { env: { MCP_GATEWAY_USERNAME: USER, MCP_GATEWAY_PASSWORD: PASSWORD }, ready: /listening/ });
  const trusting = { NODE_EXTRA_CA_CERTS: join(data, 'tls-ca.pem'), PEERS_USER: USER, PEERS_PASSWORD: PASSWORD };
  const result = async (name, program, args, env) => JSON.parse((await run(stage, name, program, [client, ...args], { env })).stdout);

  await stage.check('a Bun client that trusts the CA signs in and calls', async () => {
    equal(await result('bun', bun, ['sign-in', `${url}/mcp`], trusting), { runtime: 'bun', ok: true }, 'Bun');
  });
  await stage.check('a Bun client that does not trust the CA refuses the certificate', async () => {
    const refused = await result('bun-stranger', bun, ['get', `${url}/health/live`], { NODE_EXTRA_CA_CERTS: '' });
    assert(!refused.ok && /UNABLE_TO|SELF_SIGNED/.test(refused.code), JSON.stringify(refused));
  });
  await stage.check('a Node client that trusts the CA connects by name and by address', async () => {
    for (const host of ['localhost', '127.0.0.1']) {
      const at = `https://${host}:${port}/health/live`;
      equal(await result(`node-${host}`, process.execPath, ['get', at], trusting), { runtime: 'node', ok: true }, at);
    }
  });
}
