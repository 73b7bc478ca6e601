// One user with the official TypeScript client, in front of instances that die: what may be tried again is, as a user and a client
// would, and whatever did not come out at once is noted, with the requests that it had sent.
import { OAuthError, refreshAuthorization } from '@modelcontextprotocol/client';
import { equal, sleep } from '../lib/kit.mjs';
import { connect } from './ts.mjs';

// Some times the 75 s for which a dead instance holds its lease: who took it over may die, too.
const PATIENCE = 300_000;

export class Steady {
  constructor(n, mcp, o) { Object.assign(this, { n, mcp, o, sent: [], failures: [], done: {}, given: [], closed: false }); }

  // Every request carries an id, by which nginx's log tells where it went.
  fetch = (url, init = {}) => {
    const id = `${this.n}.${this.sent.length}`;
    this.sent.push(id);
    const headers = new Headers(init.headers);
    headers.set('x-peers', id);
    return fetch(url, { ...init, headers });
  };

  // Tries until it works or `final` says that trying again is no use.
  async steady(kind, act, final = () => false) {
    const until = Date.now() + PATIENCE;
    for (;;) {
      const [first, from] = [this.sent.length, Date.now()];
      try {
        const value = await act();
        this.done[kind] = (this.done[kind] ?? 0) + 1;
        return value;
      } catch (e) {
        const why = word(e);
        const sent = this.sent.slice(first);
        this.failures.push({ n: this.n, kind, why, from, to: Date.now(), sent, message: String(e?.message ?? e).slice(0, 300) });
        if (final(why, sent) || Date.now() > until) throw e;
        await sleep(500);
      }
    }
  }

  // The whole sign-in; one that fails is begun anew, as its user would.
  async signIn() {
    // Nothing is sent where no code came, but an error.
    const redeem = (spend) => this.steady('code', spend, (why, sent) => why === 'invalid_grant' || !sent.length);
    const mode = this.n % 2 ? 'auto' : 'legacy';
    Object.assign(this, await this.steady('sign-in', () => connect(this.mcp, { ...this.o, mode, fetch: this.fetch, redeem })));
  }

  // A refresh, and a call with what came of it. Where the grant is over, its user signs in again.
  async refresh() {
    const { discovered, client, pair } = this.provider;
    const ask = { metadata: discovered.authorizationServerMetadata, clientInformation: client, refreshToken: pair.refresh_token, resource: discovered.resourceMetadata.resource, fetchFn: this.fetch };
    try {
      const next = await this.steady('refresh', () => refreshAuthorization(discovered.authorizationServerUrl, ask), (why) => why === 'invalid_grant');
      this.provider.saveTokens({ ...next, issuer: pair.issuer });
    } catch (e) {
      if (word(e) !== 'invalid_grant') throw e;
      await this.close();
      await this.signIn();
    }
    await this.call();
  }

  // A tool call; what the upstream saw as its token is kept, to be found in the log of who issued it.
  async call() {
    const said = await this.steady('call', () => this.client.callTool({ name: 'echo_headers', arguments: {} }));
    const [, token] = /^Bearer (\S+)$/.exec(JSON.parse(said.content[0].text).authorization) ?? [];
    equal(typeof token, 'string', 'the token that the upstream saw');
    if (this.given.at(-1) !== token) this.given.push(token);
  }

  close() { return this.client?.close().catch(() => {}); }
}

// What an error says, in one word.
function word(e) {
  if (e instanceof OAuthError) return e.code === 'server_error' ? `HTTP ${/HTTP (\d+)/.exec(e.message)?.[1]}` : e.code;
  const status = e?.status ?? e?.data?.status ?? /\b(?:HTTP |\()([45]\d\d)\b/.exec(String(e?.message))?.[1];
  return status ? `HTTP ${status}` : (e?.cause?.code ?? e?.code ?? e?.name ?? 'error');
}
