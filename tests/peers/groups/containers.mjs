// deploy/Dockerfile and deploy/compose.yaml by podman, by the very commands of docs/deployment.md, in a machine to throw away that has a
// network of its own. No registry is asked: pieces/engine.sh makes the images that they build on. Skipped where such a machine cannot be.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT, assert, equal, gatewayBin, run, sleep } from '../lib/kit.mjs';
import { boot } from '../lib/machine.mjs';

const REPOSITORY = join(ROOT, '../..');
const AT = '/srv/repository';
const LOCKED = '--read-only --cap-drop ALL --security-opt no-new-privileges';
// What may never get into an image: in the root of a repository that somebody works in.
const PRIVATE = ['.env', '.git/config', 'target/release/x', 'deploy/secrets/corp', 'deploy/keys/keys.json', 'gateway.toml', 'keys.json', 'tests/peers/out/x', 'fuzz/corpus/x'];

export default async function containers(stage) {
  await stage.check('the program needs the C library and libgcc_s, and nothing else', () => needs(stage));
  const machine = await boot(stage, [`${gatewayBin}:/srv/gateway`, `${copied(stage)}:${AT}`, `${packages(stage)}:/srv/python`, `${join(ROOT, 'pieces/engine.sh')}:/srv/engine.sh`], { ownNetwork: true });
  if (!machine) return;
  const shell = async (script, input) => {
    const r = await machine.shell(script, input);
    assert(r.code === 0, `${script.slice(0, 200)}\nended with ${r.code}: ${r.output.slice(-400)}`);
    return r.output;
  };
  await stage.must('an engine, and three images to build on', () => shell('/srv/engine.sh /srv/gateway'));
  await image(stage, shell);
  await alone(stage, machine, shell);
  await composed(stage, machine, shell);
}

async function needs(stage) {
  const { output } = await run(stage, 'readelf', 'readelf', ['--dynamic', '--version-info', '--wide', gatewayBin]);
  const libraries = [...output.matchAll(/\(NEEDED\).*\[(.*?)\]/g)].map(([, name]) => name).filter((name) => !name.startsWith('ld-linux'));
  assert(libraries.length && libraries.every((name) => ['libc.so.6', 'libm.so.6', 'libgcc_s.so.1'].includes(name)), `${libraries}`);
  const newest = Math.max(...[...output.matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor)));
  const here = /VERSION_CODENAME=(.*)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  console.log(`       built on ${here}: ${libraries.join(' ')}; glibc 2.${newest} or later`);
  // The image is built on bookworm, and so runs on its glibc; what another machine builds says nothing of that.
  if (here === 'bookworm') assert(newest <= 36, `glibc 2.${newest}`);
}

// The repository as git has it here, with what lies around in one, for a build's context.
function copied(stage) {
  const to = join(stage.dir, 'repository');
  const git = (...words) => execFileSync('git', ['-C', REPOSITORY, ...words], { encoding: 'utf8' }).split('\0').filter(Boolean);
  for (const file of git('ls-files', '-z', '--cached', '--others', '--exclude-standard')) {
    mkdirSync(dirname(join(to, file)), { recursive: true });
    cpSync(join(REPOSITORY, file), join(to, file));
  }
  for (const file of PRIVATE) {
    mkdirSync(dirname(join(to, file)), { recursive: true });
    writeFileSync(join(to, file), 'private');
  }
  return to;
}

// podman-compose and what it needs, out of the Python environment.
function packages(stage) {
  const lib = join(ROOT, '.venv/lib');
  const from = join(lib, readdirSync(lib)[0], 'site-packages');
  const to = join(stage.dir, 'python');
  mkdirSync(to);
  for (const name of ['podman_compose.py', 'yaml', 'dotenv']) cpSync(join(from, name), join(to, name), { recursive: true });
  return to;
}

async function image(stage, shell) {
  let said;
  await stage.must('the image is built by the command of the manual', async () => {
    const command = /`(docker build [^`]*)`/.exec(readFileSync(join(REPOSITORY, 'docs/deployment.md'), 'utf8'))[1];
    said = await shell(`cd ${AT}\n${command}`);
    assert(said.includes('\ncargo build --release --locked --bin mcp-oauth-gateway\n'), said.slice(-500));
  });
  await stage.check('the build gets what cargo reads, and nothing that is private', async () => {
    const got = new Set([...said.matchAll(/^context \.\/(.*)$/gm)].map(([, file]) => file));
    for (const file of PRIVATE) assert(!got.has(file), file);
    for (const file of got) assert(/^(Cargo\.(toml|lock)|README\.md|(benches|demo|src|standin|templates|tests\/(adapters|approvals|bridge|bridge_cli|contract|doctor|features|field|introspect|plan|stories|support|transitions))\/.*)$/.test(file), file);
    const manifest = readFileSync(join(REPOSITORY, 'Cargo.toml'), 'utf8');
    for (const [, file] of manifest.matchAll(/^(?:path|readme) = "([^"]*)"/gm)) assert([...got].some((name) => name === file || name.startsWith(`${file}/`)), `${file} of Cargo.toml`);
    for (const file of ['src/main.rs', 'src/lib.rs', 'templates/style.css', 'Cargo.lock']) assert(got.has(file), `no ${file}`);
  });
  await stage.check('the image is its base, the program and an empty directory of one user', async () => {
    const [is] = JSON.parse(await shell('docker inspect --type image mcp-oauth-gateway'));
    const c = is.Config;
    equal([c.User, c.Entrypoint, c.Cmd ?? null, Object.keys(c.Volumes), Object.keys(c.ExposedPorts)], ['65532:65532', ['/usr/local/bin/mcp-oauth-gateway'], null, ['/data'], ['8002/tcp']], 'configuration');
    equal(c.Env.filter((line) => !line.startsWith('PATH=')), ['MCP_GATEWAY_DATA_DIR=/data'], 'environment');
    equal((is.Healthcheck ?? is.HealthCheck ?? c.Healthcheck).Test, ['CMD', '/usr/local/bin/mcp-oauth-gateway', 'healthcheck'], 'health check');
    const files = await shell('root=$(podman image mount mcp-oauth-gateway); (cd "$root" && find . -type f | sort | comm -13 /srv/base.txt -; stat -c "%n %a %u:%g" . data usr/local/bin/mcp-oauth-gateway); podman image unmount mcp-oauth-gateway >/dev/null');
    equal(files.trim().split('\n'), ['./usr/local/bin/mcp-oauth-gateway', '. 755 0:0', 'data 700 65532:65532', 'usr/local/bin/mcp-oauth-gateway 755 0:0'], 'files');
  });
}

async function alone(stage, machine, shell) {
  const start = `docker run -d --name alone ${LOCKED} -v alone:/data -p 127.0.0.1:8002:8002 mcp-oauth-gateway --upstream-rs http://127.0.0.1:9/mcp --host 0.0.0.0 --insecure-http --public-url http://127.0.0.1:8002`;
  const kept = () => shell('cd "$(docker volume inspect alone --format "{{.Mountpoint}}")" && stat -c "%n %a %u" . * && sha256sum keys.json initial-password');
  await stage.check('read-only, without rights: it starts, is healthy, and has a shell for nobody', async () => {
    await shell(start);
    await healthy(machine, 'alone');
    await shell('docker exec alone /usr/local/bin/mcp-oauth-gateway healthcheck');
    const status = await shell('cat /proc/$(docker inspect alone --format "{{.State.Pid}}")/status');
    const is = (key) => new RegExp(`^${key}:\\s*(\\S+)`, 'm').exec(status)?.[1];
    equal([is('Uid'), is('CapBnd'), is('CapEff'), is('NoNewPrivs'), is('Seccomp')], ['65532', '0000000000000000', '0000000000000000', '1', '2'], 'process');
    for (const shell of ['sh', '/bin/sh', '/busybox/sh']) assert((await machine.shell(`docker exec alone ${shell} -c :`)).code !== 0, `there is ${shell}`);
  });
  await stage.check('the health check fails where nothing is served', async () => {
    equal((await machine.shell('docker exec alone /usr/local/bin/mcp-oauth-gateway healthcheck --port 8003')).code, 1, 'another port');
    equal((await machine.shell(`docker run --rm ${LOCKED} mcp-oauth-gateway healthcheck`)).code, 1, 'another container');
  });
  await stage.check('stopped it ends at once and well; what it keeps is there at the next start', async () => {
    const before = await kept();
    assert(/^\. 700 65532$/m.test(before) && /^keys\.json 600 65532$/m.test(before) && /^store\.sqlite3 600 65532$/m.test(before), before);
    await stopped(shell, 'alone');
    await shell(`docker rm alone >/dev/null; ${start}`);
    await healthy(machine, 'alone');
    const secrets = (text) => text.split('\n').filter((line) => /^[0-9a-f]{64} /.test(line));
    equal(secrets(await kept()), secrets(before), 'keys and password');
  });
  await machine.shell('docker rm -f alone');
}

async function composed(stage, machine, shell) {
  const manual = readFileSync(join(REPOSITORY, 'docs/deployment.md'), 'utf8');
  const block = (start) => [...manual.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].find(([, text]) => text.startsWith(start))[1];
  const name = (service) => `mcp-oauth-gateway_${service}_1`;
  const ask = (path, headers = '') => machine.shell(`curl -s -m 5 -w '\\n%{http_code}' ${headers} http://127.0.0.1:8002${path}`).then(({ output }) => ({ status: Number(output.slice(-3)), text: output.slice(0, -4) }));
  const ready = async (status) => {
    for (let i = 0; (await ask('/health/ready')).status !== status; i++) { assert(i < 200, `not ${status}: ${(await machine.shell(`docker logs ${name('gateway')} 2>&1 | tail -3`)).output}`); await sleep(200); }
  };
  await stage.must('gateway and Redis come up by the commands of the manual, and are healthy', async () => {
    await shell(`cd ${AT} && rm -r deploy/keys deploy/secrets\n${block('cd deploy')}`, 'the-secret-of-corp');
    for (const service of ['redis', 'gateway']) await healthy(machine, name(service));
    const warned = (await shell(`docker logs ${name('gateway')} 2>&1`)).split('\n').filter((line) => /"level":"(WARN|ERROR)"/.test(line));
    // The network of the two containers is their own. The gateway cannot know that.
    equal(warned.length, 1, `warnings: ${warned}`);
    equal(/the password of Redis goes to another machine without encryption/.test(warned[0]), true, 'the warning');
  });
  await stage.check('it answers at the published port to its own host, and to no other', async () => {
    const md = await ask('/.well-known/oauth-authorization-server', '-H "Host: mcp.example.com" -H "X-Forwarded-For: 203.0.113.9"');
    equal([md.status, JSON.parse(md.text).issuer], [200, 'https://mcp.example.com'], 'metadata');
    equal((await ask('/.well-known/oauth-authorization-server')).status, 421, 'another host');
  });
  await stage.check('both are locked in, and no secret is in an environment or on a command line', async () => {
    const all = JSON.parse(await shell(`docker inspect ${name('gateway')} ${name('redis')}`));
    for (const c of all) {
      equal([c.HostConfig.ReadonlyRootfs, c.EffectiveCaps ?? [], c.HostConfig.SecurityOpt.some((o) => o.startsWith('no-new-privileges'))], [true, [], true], c.Name);
      const said = JSON.stringify([c.Config.Env, c.Args, c.Config.Cmd]);
      assert(!/the-secret-of-corp|redis:\/\//.test(said), said);
    }
    equal(Object.keys(all[1].NetworkSettings.Networks), ['mcp-oauth-gateway_store'], 'networks of Redis');
    const [network] = JSON.parse(await shell('docker network inspect mcp-oauth-gateway_store'));
    equal([network.internal, all[1].HostConfig.PortBindings], [true, {}], 'ways to Redis');
    assert(/NOAUTH/.test(await shell(`docker exec ${name('redis')} redis-cli dbsize`)), 'Redis answers without a password');
  });
  await stage.check('Redis is killed and comes back with what it had', async () => {
    // By SIGKILL, and so that the engine does not start it again by itself.
    await shell(`docker stop --time 0 ${name('redis')}`);
    await ready(503);
    // podman 4.3's name server may stop to answer where a container starts again; it is begun anew with the next one.
    const answers = async () => /NOAUTH|PONG/.test((await machine.shell(`timeout 3 docker exec ${name('redis')} redis-cli -h redis ping 2>&1`)).output);
    await shell(`pkill -x aardvark-dns && docker start ${name('redis')}`);
    for (let i = 0; !(await answers()); i++) {
      assert(i < 5, 'the engine finds no container by its name');
      await shell(`docker stop --time 0 ${name('redis')}; pkill -x aardvark-dns; docker start ${name('redis')}`);
    }
    await ready(200);
  });
  await stage.check('the key file is rotated by the command of the manual, and the gateway follows', async () => {
    await shell(`cd ${AT}/deploy\n${block('docker run --rm -u 65532:65532')}`);
    equal(JSON.parse(await shell(`cat ${AT}/deploy/keys/keys.json`)).keys.length, 2, 'keys');
    equal((await shell(`stat -c '%u %a' ${AT}/deploy/keys/keys.json`)).trim(), '65532 600', 'whose they are');
    for (let i = 0; !(await shell(`docker logs ${name('gateway')} 2>&1`)).includes('the key ring was read again'); i++) { assert(i < 60, 'it does not follow'); await sleep(250); }
    equal((await ask('/health/ready')).status, 200, 'ready');
  });
  await stage.check('stopped, each ends at once and well', async () => {
    await stopped(shell, name('gateway'));
    // Just started it looks for its upstreams, whose names no name server here knows anything about.
    await shell(`docker start ${name('gateway')}`);
    await ready(200);
    for (const service of ['gateway', 'redis']) await stopped(shell, name(service));
    await shell(`cd ${AT}/deploy && docker compose down --volumes`);
  });
}

// Until the engine's own health check says so.
async function healthy(machine, name) {
  for (let i = 0; ; i++) {
    const { output } = await machine.shell(`docker inspect ${name} --format '{{.State.Health.Status}}'`);
    if (/^healthy$/m.test(output)) return;
    assert(i < 60, `${name} is ${output} ${(await machine.shell(`docker logs ${name} 2>&1 | tail -5`)).output}`);
    await sleep(250);
  }
}

async function stopped(shell, name) {
  // The engine kills after 5 s, and what was killed did not end with 0.
  const from = Date.now();
  await shell(`docker stop -t 5 ${name}`);
  equal((await shell(`docker inspect ${name} --format '{{.State.ExitCode}}'`)).trim(), '0', 'exit status');
  console.log(`       ${name} stopped in ${((Date.now() - from) / 1000).toFixed(1)} s`);
}
