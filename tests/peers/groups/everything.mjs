// The reference server "everything" behind a guard that asks for tokens, called with the official TypeScript client.
// The gateway is a client that the authorization server knows beforehand (no registration).
import { createRequire } from 'node:module';
import { USER, PASSWORD, assert, equal, freePort } from '../lib/kit.mjs';
import { connect } from '../clients/ts.mjs';

const program = createRequire(import.meta.url).resolve('@modelcontextprotocol/server-everything/package.json').replace('package.json', 'dist/index.js');

export default async function everything(stage) {
  const [port, guardPort, gatewayPort, callback] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const as = await stage.authorizationServer({ DCR: '0', GATEWAY_REDIRECTS: `http://127.0.0.1:${gatewayPort}/upstream/callback` });
  await stage.start('server-everything', process.execPath, [program, 'streamableHttp'], { env: { PORT: String(port) }, ready: `http://127.0.0.1:${port}/mcp` });
  await stage.piece('guard', 'guard.mjs', { PORT: guardPort, TARGET: `http://127.0.0.1:${port}`, AS: as.url });
  const gw = await stage.gateway(`http://127.0.0.1:${guardPort}/mcp`, { port: gatewayPort, args: ['--upstream-as', as.url, '--upstream-client-id', 'gateway', '--upstream-client-secret', 'gateway-secret-for-tests-only'] });
  const c = await stage.must('the TypeScript client signs in', () => connect(gw.mcp, { user: USER, password: PASSWORD, redirect: `http://127.0.0.1:${callback}/callback` }));
  await stage.check('tool list', async () => {
    const { tools } = await c.client.listTools();
    assert(tools.length > 5 && tools.some((t) => t.name === 'echo'), `tools: ${tools.map((t) => t.name)}`);
  });
  await stage.check('echo', async () => {
    const r = await c.client.callTool({ name: 'echo', arguments: { message: 'through the gateway ✓' } });
    assert(r.content[0].text.includes('through the gateway ✓'), JSON.stringify(r));
  });
  await stage.check('a long call reports its progress on the way', async () => {
    let seen = 0;
    const r = await c.client.callTool({ name: 'trigger-long-running-operation', arguments: { duration: 1, steps: 4 } }, { onprogress: () => { seen++; } });
    assert(!r.isError, JSON.stringify(r));
    equal(seen, 4, 'progress notifications');
  });
  await stage.check('resources and prompts', async () => {
    const list = await c.client.listResources();
    assert(list.resources.length > 0, 'no resources');
    const read = await c.client.readResource({ uri: list.resources[0].uri });
    assert(read.contents.length > 0, 'an empty resource');
    assert((await c.client.listPrompts()).prompts.length > 0, 'no prompts');
  });
  await stage.check('the session ends when asked', () => c.transport.terminateSession());
  await c.client.close();
}
