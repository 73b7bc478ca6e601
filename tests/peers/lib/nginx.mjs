// deploy/nginx.conf itself, to be started: its names, ports and certificates are filled in, nothing else.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, assert, equal, run } from './kit.mjs';

const conf = readFileSync(join(ROOT, '../../deploy/nginx.conf'), 'utf8');

// The file with its placeholders filled in, each of which must be there; its directory is the answer. `at` has the ports root,
// prefix and gateway, or several in `gateways`; `format` is what `seen.log` tells of each request, besides the log of the file.
export async function filled(stage, name, at, { tls = false, format } = {}) {
  const dir = join(stage.dir, `nginx-${name}`);
  mkdirSync(join(dir, 'www'), { recursive: true });
  writeFileSync(join(dir, 'www/index.html'), '');
  let text = conf;
  const put = (from, to) => { assert(text.includes(from), `deploy/nginx.conf has no ${from}`); text = text.replaceAll(from, to); };
  if (tls) {
    const made = await run(stage, 'openssl', 'openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=mcp.example.com', '-days', '2', '-keyout', join(dir, 'privkey.pem'), '-out', join(dir, 'fullchain.pem')]);
    equal(made.code, 0, made.output);
    for (const host of ['mcp', 'www']) put(`/etc/ssl/${host}.example.com/`, `${dir}/`);
    put('listen 443 ssl', `listen 127.0.0.1:${at.root} ssl`);
    put('listen [::]:443 ssl', `listen [::1]:${at.root} ssl`);
  } else {
    for (const [host, port] of [['mcp', at.root], ['www', at.prefix]]) {
      put(`    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n    server_name ${host}.example.com;\n`, `    listen 127.0.0.1:${port};\n    server_name 127.0.0.1;\n`);
      put(`    ssl_certificate     /etc/ssl/${host}.example.com/fullchain.pem;\n    ssl_certificate_key /etc/ssl/${host}.example.com/privkey.pem;\n`, '');
    }
  }
  const server = /^ *server 127\.0\.0\.1:8002.*;$/m.exec(text)?.[0];
  assert(server, 'deploy/nginx.conf has no server 127.0.0.1:8002');
  put(server, (at.gateways ?? [at.gateway]).map((port) => server.replace('8002', port)).join('\n'));
  put('/var/log/nginx/mcp-gateway.log mcp_gateway;', `${dir}/access.log mcp_gateway;${format ? ` access_log ${dir}/seen.log seen;` : ''}`);
  put('        root /var/www/html;\n', "        return 200 'the rest of the host';\n");
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${dir}/${what};`).join(' ');
  const seen = format ? `log_format seen escape=json '${format}';` : '';
  writeFileSync(join(dir, 'nginx.conf'), `daemon off; pid ${dir}/pid; worker_processes 1;\nevents { worker_connections 512; }\nhttp {\naccess_log off; ${temporary} ${seen}\n${text}\n}\n`);
  return dir;
}
