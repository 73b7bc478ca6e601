// A client that runs in Bun (or in Node): `bun.mjs sign-in URL` signs in and calls a tool, `bun.mjs get URL` fetches an address. It prints
// a line of JSON.
import { login } from '../lib/oauth.mjs';
import { callSimple } from '../lib/mcp.mjs';

const [what, url] = process.argv.slice(2);
const runs = {
  'sign-in': async () => {
    const { tokens } = await login(url, { user: process.env.PEERS_USER, password: process.env.PEERS_PASSWORD });
    await callSimple(url, tokens.access_token);
  },
  get: async () => { const r = await fetch(url); await r.text(); if (!r.ok) throw new Error(`status ${r.status}`); }
};

const runtime = process.versions.bun ? 'bun' : 'node';
try {
  await runs[what]();
  console.log(JSON.stringify({ runtime, ok: true }));
} catch (e) {
  console.log(JSON.stringify({ runtime, ok: false, code: e?.code ?? e?.cause?.code ?? '', message: String(e?.message ?? e) }));
}
