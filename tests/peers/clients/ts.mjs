// The official TypeScript client (@modelcontextprotocol/client 2.x) with OAuth; the scripted browser is its user.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { Browser } from '../lib/browser.mjs';

export class MemoryProvider {
  constructor(o) { this.o = o; this.browser = new Browser(o); }
  get redirectUrl() { return this.o.redirect; }
  get clientMetadata() { return { client_name: 'ts peer', redirect_uris: [this.o.redirect], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none', application_type: 'native' }; }
  state() { return (this._state = Math.random().toString(36).slice(2)); }
  clientInformation() { return this.client; }
  saveClientInformation(x) { this.client = x; }
  tokens() { return this.pair; }
  saveTokens(t) { this.pair = t; }
  saveCodeVerifier(v) { this.verifier = v; }
  codeVerifier() { return this.verifier; }
  saveDiscoveryState(s) { this.discovered = s; }
  discoveryState() { return this.discovered; }
  invalidateCredentials(s) { if (s === 'all' || s === 'tokens') this.pair = undefined; if (s === 'all' || s === 'client') this.client = undefined; }
  async redirectToAuthorization(url) {
    const r = await this.browser.run(url.toString(), { stopAt: this.o.redirect });
    if (!r.stopped) throw new Error(`the browser ended at ${r.finalUrl} (${r.status}) ${(r.body ?? '').replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').slice(0, 200)}`);
    this.callback = new URL(r.finalUrl).searchParams;
  }
}

// o: {user, password, redirect, mode, fetch, redeem}; mode is legacy (the default), auto, or a protocol version; redeem is given how
// to spend the code
export async function connect(url, o) {
  const provider = new MemoryProvider(o);
  const negotiate = o.mode && o.mode !== 'legacy' ? { versionNegotiation: { mode: o.mode === 'auto' ? 'auto' : { pin: o.mode } } } : {};
  for (let i = 0; i < 3; i++) {
    const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch: o.fetch });
    const client = new Client({ name: 'ts-peer', version: '1.0.0' }, { capabilities: {}, ...negotiate });
    try { await client.connect(transport); return { client, transport, provider }; } catch (e) {
      const asked = e instanceof UnauthorizedError || /unauthor/i.test(String(e?.cause ?? e));
      if (!asked || !provider.callback) throw e;
      const spend = () => transport.finishAuth(provider.callback);
      await (o.redeem ? o.redeem(spend) : spend());
      provider.callback = undefined;
    }
  }
  throw new Error('still unauthorized after signing in');
}
