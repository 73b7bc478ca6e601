// Two instances that share nothing but their keys (store = "none"): the story of the group replicas, and before it what such
// instances cannot do, counted.
import { USER, PASSWORD, assert, equal } from '../lib/kit.mjs';
import { login, token } from '../lib/oauth.mjs';
import { counted } from '../lib/judge.mjs';
import { instances, refreshed } from './replicas.mjs';

const TIMES = 6;

export default async function replicasNone(stage) {
  await instances(stage, { count: 2, store: '[store]\nkind = "none"', pinned: true, first: (all) => exceptions(stage, all) });
}

async function exceptions(stage, { site, as }) {
  const signedIn = () => login(site.mcp, { user: USER, password: PASSWORD });
  const word = (r) => r.body.error ?? (r.status === 200 ? 'a pair' : `HTTP ${r.status}`);
  const refresh = (s, refresh_token) => token(s.as, { grant_type: 'refresh_token', refresh_token, client_id: s.client.client_id });

  await stage.check('a code that is spent opens nothing, wherever it is brought', async () => {
    const said = [];
    for (let i = 0; i < TIMES; i++) {
      const s = await signedIn();
      const spent = { grant_type: 'authorization_code', code: s.authz.params.code, redirect_uri: s.redirect_uri, client_id: s.client.client_id, code_verifier: s.pkce.verifier };
      said.push(word(await token(s.as, spent)), word(await token(s.as, spent)));
    }
    console.log(`       a code brought again: ${counted(said)}`);
    assert(!said.includes('a pair'), 'a pair for a code that was spent');
  });
  await stage.check('an older refresh token is answered or refused, wherever it is brought', async () => {
    const said = [];
    for (let i = 0; i < TIMES; i++) {
      const s = await signedIn();
      const old = s.tokens.refresh_token;
      s.tokens = await refreshed(s);
      said.push(word(await refresh(s, old)), word(await refresh(s, old)));
    }
    console.log(`       an older refresh token: ${counted(said)}`);
    equal(said.filter((what) => !['a pair', 'invalid_grant'].includes(what)), [], 'anything else');
  });
  await stage.check('32 refreshes at once: as many ask the upstream as there are instances, at most', async () => {
    const s = await signedIn();
    const before = (await as.log()).filter((e) => e.grant === 'refresh_token').length;
    await as.ctl('fault?after=300');
    const said = await Promise.all(Array.from({ length: 32 }, () => refresh(s, s.tokens.refresh_token)));
    await as.ctl('fault');
    const asked = (await as.log()).filter((e) => e.grant === 'refresh_token').length - before;
    console.log(`       32 refreshes at once: ${asked} asked upstream; ${counted(said.map(word))}`);
    assert(asked >= 1 && asked <= 2, `${asked} asked`);
  });
}
