// Runs a stdio bridge (mcp-remote) and plays both its host and its user: speaks MCP on its standard streams, and visits
// every authorization URL that appears in its output with the scripted browser.
//   const b = new Bridge(command, args, { env, user, password }); await b.initialize(); await b.rpc('tools/list'); await b.end();
import { spawn } from 'node:child_process';
import { Browser } from '../lib/browser.mjs';

export class Bridge {
  constructor(command, args, { env = {}, timeout = 60_000, ...browser } = {}) {
    // BROWSER=true: whatever opens a browser succeeds without doing anything; the URL is taken from the output.
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, BROWSER: 'true', NO_COLOR: '1', ...env } });
    Object.assign(this, { browser, timeout, waiting: new Map(), notifications: [], visits: [], seen: new Set(), stderr: '', stdout: '', next: 1 });
    this.child.stdin.on('error', () => {});
    this.child.stderr.on('data', (d) => { this.stderr += d; this.visit(); });
    this.child.stdout.on('data', (d) => { this.stdout += d; this.pump(); });
    this.exited = new Promise((ok) => this.child.once('exit', (code) => { this.fail(new Error(`the bridge ended (${code}): ${this.stderr.slice(-600)}`)); ok(code); }));
  }

  fail(error) { for (const w of this.waiting.values()) w.no(error); }

  async visit() {
    for (const [url] of this.stderr.replace(/\x1b\[[0-9;]*m/g, '').matchAll(/https?:\/\/[^\s"'<>\\]+[?&](?:response_type=code|request_uri=)[^\s"'<>\\]*(?=\s)/g)) {
      if (this.seen.has(url)) continue;
      this.seen.add(url);
      const r = await new Browser(this.browser).run(url).catch((e) => ({ finalUrl: String(e) }));
      this.visits.push(`${r.finalUrl.split('?')[0]} ${r.status ?? ''}`);
      if (!(r.status < 400)) this.fail(new Error(`the browser ended at ${this.visits.at(-1)} ${(r.body ?? '').replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').slice(0, 200)}`));
    }
  }

  pump() {
    for (let k; (k = this.stdout.indexOf('\n')) >= 0;) {
      const line = this.stdout.slice(0, k);
      this.stdout = this.stdout.slice(k + 1);
      let m;
      try { m = JSON.parse(line); } catch { continue; }
      if (m.id === undefined) this.notifications.push({ at: Date.now(), ...m });
      else { this.waiting.get(m.id)?.ok(m); this.waiting.delete(m.id); }
    }
  }

  send(m) { this.child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...m })}\n`); }
  async rpc(method, params = {}) {
    const id = this.next++;
    let timer;
    const answer = await new Promise((ok, no) => {
      timer = setTimeout(() => no(new Error(`no answer to ${method}; visited ${JSON.stringify(this.visits)}; ${this.stderr.slice(-600)}`)), this.timeout);
      this.waiting.set(id, { ok, no });
      this.send({ id, method, params });
    }).finally(() => clearTimeout(timer));
    if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }

  async initialize() {
    const r = await this.rpc('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bridge-host', version: '1' } });
    this.send({ method: 'notifications/initialized' });
    return r;
  }

  async end() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      const hard = setTimeout(() => this.child.kill('SIGKILL'), 2000);
      await this.exited;
      clearTimeout(hard);
    }
  }
}
