// Several instances of the gateway that are one, behind nginx by deploy/nginx.conf: round robin, and no address kept with anybody.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { USER, PASSWORD, assert, freePort, gatewayBin, run, sleep } from './kit.mjs';
import { filled } from './nginx.mjs';

const FORMAT = '{"id":"$http_x_peers","end":$msec,"took":$request_time,"status":$status,"to":"$upstream_addr","answered":"$upstream_status","connected":"$upstream_connect_time","what":"$request_method $uri"}';

export class Site {
  // `store` is the text of [store] in the configuration, `service` that of the one service; every instance has them, and one key file.
  static async start(stage, { root, count, store, service }) {
    const site = Object.assign(new Site(), { stage, kills: [], dir: join(stage.dir, 'site') });
    mkdirSync(site.dir);
    site.keys = join(site.dir, 'keys.json');
    const key = { key: randomBytes(32).toString('base64'), made: 0, seals_from: 0 };
    writeFileSync(site.keys, JSON.stringify({ keys: [key] }), { mode: 0o600 });
    const at = { root, prefix: await freePort(), gateways: [] };
    for (let i = 0; i < count; i++) at.gateways.push(await freePort());
    site.url = `http://127.0.0.1:${at.root}`;
    site.mcp = `${site.url}/mcp`;
    site.instances = at.gateways.map((port, i) => site.configured(i, port, store, service));
    await Promise.all(site.instances.map((one) => site.run(one)));
    site.nginx = await filled(stage, 'replicas', at, { format: FORMAT });
    await stage.start('nginx', 'nginx', ['-p', site.nginx, '-c', join(site.nginx, 'nginx.conf'), '-e', 'stderr'], { ready: `${site.url}/health/ready` });
    return site;
  }

  configured(i, port, store, service) {
    const file = join(this.dir, `${i}.toml`);
    writeFileSync(file, `
public_url = "${this.url}"
listen = ["127.0.0.1:${port}"]
trusted_proxies = ["127.0.0.1"]

[keys]
file = "${this.keys}"

${store}

[services.main]
${service}
default = true
`, { mode: 0o600 });
    return { name: `gateway-${i}`, port, url: `http://127.0.0.1:${port}`, file, data: join(this.dir, `data-${i}`) };
  }

  async run(one) {
    const env = { MCP_GATEWAY_USERNAME: USER, MCP_GATEWAY_PASSWORD: PASSWORD };
    const line = ['--config', one.file, '--data-dir', one.data, '--log', 'debug'];
    one.process = await this.stage.start(one.name, gatewayBin, line, { env, ready: `${one.url}/health/ready`, timeout: 30_000 });
  }

  async ready(one) { return (await fetch(`${one.url}/health/ready`).catch(() => ({ status: 0 }))).status; }

  async untilReady(status, some = this.instances) {
    for (const one of some) {
      for (let i = 0; (await this.ready(one)) !== status; i++) {
        assert(i < 1000, `${one.name}: /health/ready did not become ${status}`);
        await sleep(20);
      }
    }
  }

  // kill -9 of one instance, and its next life.
  async kill(one) {
    const kill = { to: `127.0.0.1:${one.port}`, at: Date.now() };
    this.kills.push(kill);
    await one.process.kill9();
    kill.gone = Date.now();
    await this.run(one);
    kill.back = Date.now();
  }

  // What nginx saw of each request, by its id.
  seen() {
    const lines = readFileSync(join(this.nginx, 'seen.log'), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
    const tries = ({ to, answered, connected }) => to.split(', ').map((to, i) => ({ to, answered: Number(answered.split(', ')[i]), connected: connected.split(', ')[i] !== '-' }));
    return lines.map((line) => ({ ...line, from: line.end * 1000 - line.took * 1000, end: line.end * 1000, tries: tries(line) }));
  }

  rotateKeys() { return run(this.stage, 'keyring', gatewayBin, ['keyring', '--config', this.instances[0].file, 'rotate']); }
}

// A redis-server as docs/stores.md wants it, on a port and a directory that it keeps when it is started again.
export class Redis {
  static async start(stage) {
    const redis = Object.assign(new Redis(), { stage, port: await freePort(), dir: join(stage.dir, 'redis') });
    mkdirSync(redis.dir);
    await redis.run();
    return redis;
  }
  get store() { return `[store]\nkind = "redis"\nurl = "redis://127.0.0.1:${this.port}"`; }
  async run() {
    const line = ['--bind', '127.0.0.1', '--port', String(this.port), '--dir', this.dir, '--appendonly', 'yes', '--appendfsync', 'always', '--save', '', '--maxmemory-policy', 'noeviction'];
    this.process = await this.stage.start('redis', 'redis-server', line, { ready: /Ready to accept connections/ });
  }
  kill() { return this.process.kill9(); }
  async cli(...line) { return (await run(this.stage, 'redis-cli', 'redis-cli', ['-h', '127.0.0.1', '-p', String(this.port), ...line])).stdout.trim(); }
}
