// oidc-provider in front of the MCP server, reached through the gateway that registered itself there: the whole life
// of a pair, once in each token mode.
import { USER, PASSWORD, assert, equal } from '../lib/kit.mjs';
import { login, token, form, getJson } from '../lib/oauth.mjs';
import { callSimple, rpc } from '../lib/mcp.mjs';

export default async function oidc(stage) {
  const as = await stage.authorizationServer();
  const up = await stage.mcpServer({ as });
  for (const [mode, args] of [['default', []], ['sealed', ['--token-mode', 'sealed']]]) await life(stage, { as, up, mode, args });
}

async function life(stage, { as, up, mode, args }) {
  const is = (what) => `${what} (${mode} tokens)`;
  let gw = await stage.gateway(up.mcp, { args });
  await stage.check(is('ready, and the metadata names itself'), async () => {
    const ready = await fetch(`${gw.url}/health/ready`);
    equal(ready.status, 200, 'readiness');
    const prm = await getJson(`${gw.url}/.well-known/oauth-protected-resource/mcp`);
    equal(prm.body?.resource, gw.mcp, 'resource');
    equal(prm.body?.authorization_servers, [gw.url], 'authorization servers');
    const md = await getJson(`${gw.url}/.well-known/oauth-authorization-server`);
    equal(md.body?.issuer, gw.url, 'issuer');
  });
  await stage.check(is('without a token: 401 with a challenge'), async () => {
    const r = await rpc(gw.mcp, undefined, 'tools/list');
    equal(r.status, 401, 'status');
    assert(/resource_metadata="/.test(r.headers.get('www-authenticate') ?? ''), 'no resource_metadata in the challenge');
  });
  const s = await stage.must(is('login through both servers'), () => login(gw.mcp, { user: USER, password: PASSWORD }));
  let pair = s.tokens;
  await stage.must(is('tool call'), () => callSimple(gw.mcp, pair.access_token));
  await stage.check(is('the upstream sees a token of its own, never the client\'s'), async () => {
    const r = await rpc(gw.mcp, pair.access_token, 'tools/call', { name: 'echo_headers', arguments: {} });
    const seen = JSON.parse(r.body.result.content[0].text).authorization;
    assert(/^Bearer \S+$/.test(seen ?? ''), `upstream saw ${seen && 'something else than a bearer token'}`);
    assert(!seen.includes(pair.access_token) && !pair.access_token.includes(seen.slice(7)), 'one token contains the other');
  });
  const refresh = async () => {
    const r = await token(s.as, { grant_type: 'refresh_token', refresh_token: pair.refresh_token, client_id: s.client.client_id, resource: s.resource });
    assert(r.status === 200, `refresh answered ${r.status} ${r.text}`);
    assert(r.body.access_token && r.body.access_token !== pair.access_token, 'no new access token');
    equal(r.body.token_type?.toLowerCase(), 'bearer', 'token type');
    pair = { ...pair, ...r.body };
    await callSimple(gw.mcp, pair.access_token);
  };
  await stage.check(is('refresh'), refresh);
  await stage.check(is('refresh again'), refresh);
  await stage.must(is('kill -9, restart on the same data: the old pair still works'), async () => {
    await gw.run.kill9();
    gw = await gw.restart();
    await callSimple(gw.mcp, pair.access_token);
  });
  await stage.check(is('refresh after the restart'), refresh);
  await stage.check(is('the upstream forgets its access tokens: the client is at most one refresh away'), async () => {
    await as.ctl('drop-access');
    const r = await rpc(gw.mcp, pair.access_token, 'tools/list');
    assert(r.status === 200 || r.status === 401, `answered ${r.status}`);
    if (r.status === 401) await refresh();
    await callSimple(gw.mcp, pair.access_token);
  });
  await stage.check(is('revoke: the pair is over'), async () => {
    const r = await form(s.as.revocation_endpoint, { token: pair.refresh_token, token_type_hint: 'refresh_token', client_id: s.client.client_id });
    equal(r.status, 200, 'revocation');
    equal((await rpc(gw.mcp, pair.access_token, 'tools/list')).status, 401, 'access token after revocation');
    const again = await token(s.as, { grant_type: 'refresh_token', refresh_token: pair.refresh_token, client_id: s.client.client_id });
    equal([again.status, again.body.error], [400, 'invalid_grant'], 'refresh token after revocation');
  });
  await stage.check(is('deny at the consent page: access_denied, and no code'), async () => {
    const e = await login(gw.mcp, { user: USER, password: PASSWORD, decision: 'deny' }).then(() => 'a token', (x) => x.message);
    assert(/access_denied/.test(e), e);
  });
  await gw.run.end();
}
