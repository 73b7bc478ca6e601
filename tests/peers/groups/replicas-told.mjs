// The story of the group replicas-none once more, for two instances that keep nothing and tell each other in a Redis what they used up;
// and before it what the others of that group cannot do.
import { USER, PASSWORD, equal } from '../lib/kit.mjs';
import { form, login, token } from '../lib/oauth.mjs';
import { upstream } from '../lib/judge.mjs';
import { Redis } from '../lib/site.mjs';
import { instances, refreshed } from './replicas.mjs';

const TIMES = 6;

export default async function replicasTold(stage) {
  const redis = await Redis.start(stage);
  const store = `[store]\nkind = "none"\nurl = "redis://127.0.0.1:${redis.port}"`;
  await instances(stage, { count: 2, store, redis, pinned: true, travels: true, first: (all) => promises(stage, all) });
}

async function promises(stage, { site, as }) {
  const signedIn = () => login(site.mcp, { user: USER, password: PASSWORD });
  const refresh = (s, refresh_token) => token(s.as, { grant_type: 'refresh_token', refresh_token, client_id: s.client.client_id });
  const refused = (r, what) => equal([r.status, r.body.error], [400, 'invalid_grant'], what);

  await stage.check('a code that is brought again ends its grant at every instance', async () => {
    for (let i = 0; i < TIMES; i++) {
      const s = await signedIn();
      refused(await token(s.as, { grant_type: 'authorization_code', code: s.authz.params.code, redirect_uri: s.redirect_uri, client_id: s.client.client_id, code_verifier: s.pkce.verifier }), 'the code');
      for (let k = 0; k < 2; k++) refused(await refresh(s, s.tokens.refresh_token), 'its refresh token');
    }
  });
  await stage.check('a refresh token that was used is not shown to the upstream again, and who has the newer one is not disturbed', async () => {
    await as.forget();
    for (let i = 0; i < TIMES; i++) {
      const s = await signedIn();
      const old = s.tokens.refresh_token;
      s.tokens = await refreshed(s);
      for (let k = 0; k < 2; k++) await refresh(s, old);
      s.tokens = await refreshed(s);
    }
    equal(upstream(await as.log(), []).reused, [], 'seen again by the upstream');
  });
  await stage.check('a grant that was revoked is refused by every instance', async () => {
    for (let i = 0; i < TIMES; i++) {
      const s = await signedIn();
      equal((await form(s.as.revocation_endpoint, { token: s.tokens.refresh_token, client_id: s.client.client_id })).status, 200, 'revoked');
      for (let k = 0; k < 2; k++) refused(await refresh(s, s.tokens.refresh_token), 'the refresh token');
    }
  });
}
