// deploy/Caddyfile itself, to be started: its names and ports are filled in, and options of the test's own go before; nothing else.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, assert } from './kit.mjs';

export const FILE = join(ROOT, '../../deploy/Caddyfile');

// The file with its placeholders filled in, each of which must be there; the answer is its directory. `at` has the ports root, prefix
// and gateway, or several in `gateways`; with `tls` the first form keeps its name, and Caddy makes the certificate itself.
export function filled(stage, name, at, { tls = false } = {}) {
  const dir = join(stage.dir, `caddy-${name}`);
  mkdirSync(dir, { recursive: true });
  let text = readFileSync(FILE, 'utf8');
  const put = (from, to) => { assert(text.includes(from), `deploy/Caddyfile has no ${from}`); text = text.replaceAll(from, to); };
  const secure = tls ? `https_port ${at.root}\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects` : 'auto_https off';
  put('\n{\n', `\n{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tstorage file_system ${dir}\n\t${secure}\n`);
  if (!tls) put('\nmcp.example.com {', `\nhttp://127.0.0.1:${at.root} {`);
  put('\nwww.example.com {', `\nhttp://127.0.0.1:${at.prefix} {`);
  put('\t\troot * /var/www/html\n\t\tfile_server\n', '\t\trespond "the rest of the host"\n');
  if (at.gateways) {
    // What the file has in comments for several instances.
    for (const line of ['lb_policy', 'lb_try_duration', 'fail_duration', 'health_uri', 'health_interval']) put(`# ${line} `, `${line} `);
  }
  put(' 127.0.0.1:8002 {', ` ${(at.gateways ?? [at.gateway]).map((port) => `127.0.0.1:${port}`).join(' ')} {`);
  writeFileSync(join(dir, 'Caddyfile'), text);
  return dir;
}

// Caddy with that file, its own data in the same directory.
export async function started(stage, name, dir, ready = /serving initial configuration/) {
  const env = { XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir };
  return stage.start(`caddy-${name}`, 'caddy', ['run', '--config', join(dir, 'Caddyfile'), '--adapter', 'caddyfile'], { env, ready });
}
