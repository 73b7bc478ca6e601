// What every group is made of: checks, free ports, processes that are ended again, and the gateway under test.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
export const OUT = join(ROOT, 'out');
export const USER = 'alice';
export const PASSWORD = 'correct-horse-battery-9';
export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

export const gatewayBin = resolve(process.env.GATEWAY_BIN ?? join(ROOT, '../../target/release/mcp-oauth-gateway'));
if (!existsSync(gatewayBin)) { console.error(`no gateway at ${gatewayBin}: build it, or say GATEWAY_BIN`); process.exit(2); }

export function assert(ok, message) { if (!ok) throw new Error(message); }
export function equal(got, want, what) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
  assert(g === w, `${what}: ${g}, not ${w}`);
}

// Ports are handed out once per run, so that two pieces started together never get the same one.
const handed = new Set();
export async function freePort() {
  for (;;) {
    const port = await new Promise((ok, no) => { const s = createServer().on('error', no).listen(0, '127.0.0.1', () => { const p = s.address().port; s.close(() => ok(p)); }); });
    if (!handed.has(port)) { handed.add(port); return port; }
  }
}

// One group's stage. Everything started on it ends with it, and nothing else is touched.
export class Stage {
  constructor(group) {
    this.group = group;
    this.results = [];
    this.closers = [];
    this.dir = mkdtempSync(join(tmpdir(), `peers-${group}-`));
    this.logs = join(OUT, group);
    rmSync(this.logs, { recursive: true, force: true });
    mkdirSync(this.logs, { recursive: true });
  }

  // Runs one check and prints its line. A check that throws has failed; its value is returned for the next one.
  async check(name, run, { timeout = 120_000 } = {}) {
    let timer;
    const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`took more than ${timeout} ms`)), timeout); });
    try {
      const value = await Promise.race([run(), late]);
      this.report(name);
      return value;
    } catch (e) { this.report(name, e); return undefined; } finally { clearTimeout(timer); }
  }

  // As check, but the rest of the group makes no sense without it.
  async must(name, run, o) {
    const before = this.failed();
    const value = await this.check(name, run, o);
    if (this.failed() > before) throw new Stop();
    return value;
  }

  report(name, error) {
    this.results.push({ name, ok: !error });
    console.log(`${error ? 'FAIL' : 'ok  '} ${this.group}: ${name}${error ? `\n       ${String(error?.message ?? error).slice(0, 600).replaceAll('\n', '\n       ')}` : ''}`);
  }
  // The whole group cannot be run on this machine.
  skip(why) {
    this.skipped = why;
    console.log(`skip ${this.group}: ${why}`);
  }
  failed() { return this.results.filter((r) => !r.ok).length; }

  // Starts a program and waits until `ready` (a URL that answers below 500, or a pattern in its output).
  async start(name, command, args, { env = {}, ready, timeout = 20_000 } = {}) {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(this.logs, `${name}.log`), { flags: 'a' });
    let output = '';
    let stdout = '';
    child.stdout.on('data', (d) => { if (stdout.length < 1_000_000) stdout += d; });
    for (const s of [child.stdout, child.stderr]) s.on('data', (d) => { log.write(d); if (output.length < 100_000) output += d; });
    const exited = new Promise((ok) => { child.once('close', (code, signal) => ok({ code, signal })); child.once('error', (e) => ok({ code: -1, error: e })); });
    let gone;
    exited.then((x) => { gone = x; });
    const handle = { child, exited, output: () => output, stdout: () => stdout, end: () => end(child, exited), kill9: async () => { child.kill('SIGKILL'); await exited; } };
    this.closers.push(handle.end);
    const until = Date.now() + timeout;
    while (ready) {
      if (gone) throw new Error(`${name} ended (${JSON.stringify(gone)}): ${output.slice(-500)}`);
      if (ready instanceof RegExp ? ready.test(output) : await fetch(ready).then((r) => r.body?.cancel().then(() => r.status < 500) ?? r.status < 500, () => false)) break;
      if (Date.now() > until) throw new Error(`${name} not ready after ${timeout} ms: ${output.slice(-500)}`);
      await sleep(50);
    }
    return handle;
  }

  piece(name, file, env, o = {}) { return this.start(name, process.execPath, [join(ROOT, 'pieces', file)], { env, ready: /^ready /m, ...o }); }
  defer(close) { this.closers.push(close); }

  // oidc-provider as the upstream authorization server. It lets the gateway register itself unless told otherwise.
  async authorizationServer(env = {}) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    await this.piece('oidc-provider', 'oidc-provider.mjs', { PORT: port, TOKEN_FORMAT: 'opaque', ...env });
    return { url, log: async () => (await fetch(`${url}/__ctl/log`)).json(), forget: () => fetch(`${url}/__ctl/log`, { method: 'DELETE' }), ctl: (what) => fetch(`${url}/__ctl/${what}`, { method: 'POST' }) };
  }

  // The dual-era MCP server: with `as`, it demands tokens of that server and says so in its metadata.
  async mcpServer({ as, name = 'upstream', env = {} } = {}) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    await this.piece(name, 'upstream.mjs', { PORT: port, ...(as ? { AUTH: 'introspect', AS: as.url, CHALLENGE_SCOPE: 'mcp:tools' } : {}), ...env });
    return { url, mcp: `${url}/mcp`, log: async () => (await fetch(`${url}/__log`)).json(), live: async () => (await fetch(`${url}/__live`)).json() };
  }

  // The gateway, on its own data directory. `restart` starts it again on the same port and directory.
  async gateway(mcp, { args = [], port, dataDir, publicUrl } = {}) {
    port ??= await freePort();
    dataDir ??= mkdtempSync(join(this.dir, 'data-'));
    const url = `http://127.0.0.1:${port}`;
    const line = ['--upstream-rs', mcp, '--host', '127.0.0.1', '--port', String(port), '--public-url', publicUrl ?? url, '--data-dir', dataDir, '--store', 'sqlite', '--log', 'info', ...args];
    const run = await this.start('gateway', gatewayBin, line, { env: { MCP_GATEWAY_USERNAME: USER, MCP_GATEWAY_PASSWORD: PASSWORD }, ready: `${url}/health/ready`, timeout: 30_000 });
    return { url, mcp: `${url}/mcp`, port, dataDir, run, output: run.output, restart: () => this.gateway(mcp, { args, port, dataDir, publicUrl }) };
  }

  // The gateway from a configuration file; `line` is what names the file and the data directory on the command line.
  async configured(port, text, env = {}) {
    const url = `http://127.0.0.1:${port}`;
    const dir = mkdtempSync(join(this.dir, 'configured-'));
    writeFileSync(join(dir, 'gateway.toml'), `public_url = "${url}"\nlisten = ["127.0.0.1:${port}"]\n${text}`);
    const line = ['--config', join(dir, 'gateway.toml'), '--data-dir', join(dir, 'data')];
    const all = { MCP_GATEWAY_USERNAME: USER, MCP_GATEWAY_PASSWORD: PASSWORD, ...env };
    const start = () => this.start('gateway', gatewayBin, line, { env: all, ready: `${url}/health/ready`, timeout: 30_000 });
    return { url, line, env: all, start };
  }

  async close() {
    for (const c of this.closers.reverse()) await Promise.resolve(c()).catch(() => {});
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export class Stop extends Error {}

async function end(child, exited) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.kill('SIGTERM');
  const hard = setTimeout(() => child.kill('SIGKILL'), 3000);
  await exited;
  clearTimeout(hard);
}

// Runs a program to its end and gives its output.
export async function run(stage, name, command, args, o = {}) {
  const h = await stage.start(name, command, args, o);
  return { ...(await h.exited), output: h.output(), stdout: h.stdout() };
}
