// deploy/mcp-oauth-gateway.service under a real systemd, put there by the very commands of docs/deployment.md, in a machine to throw away
// (pieces/machine.sh). Wants root, or sudo without a password; where there is neither, it says so and is skipped.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PASSWORD, ROOT, assert, equal, freePort, gatewayBin, run, sleep } from '../lib/kit.mjs';
import { login, token } from '../lib/oauth.mjs';
import { callSimple } from '../lib/mcp.mjs';
import { boot } from '../lib/machine.mjs';

const REPOSITORY = join(ROOT, '../..');
const UNIT = 'mcp-oauth-gateway.service';
const DATA = '/var/lib/mcp-oauth-gateway';
// As `systemd-analyze security` of systemd 252 scores it, in tenths; a later one may know more to ask for.
const EXPOSURE = 12;

export default async function systemd(stage) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const as = await stage.authorizationServer({ GATEWAY_REDIRECTS: `${url}/upstream/callback,${url}/upstream/callback/github` });
  const upstream = await stage.mcpServer({ as });
  const manual = readFileSync(join(REPOSITORY, 'docs/deployment.md'), 'utf8');
  const block = (start) => {
    const found = [...manual.matchAll(/^```(?:sh|toml)\n([\s\S]*?)^```$/gm)].find(([, text]) => text.startsWith(start));
    assert(found, `docs/deployment.md has no block that starts with ${start}`);
    return found[1];
  };
  const configuration = filled(block('public_url'), { 'https://mcp.example.com': url, ':8002': `:${port}`, 'https://api.githubcopilot.com/mcp/': upstream.mcp, 'Iv1.0123456789abcdef': 'gateway' });
  const unit = filled(readFileSync(join(REPOSITORY, 'deploy', UNIT), 'utf8'), { '#LoadCredential=github:': 'LoadCredential=github:' });
  const dir = join(stage.dir, 'repository');
  mkdirSync(dir);
  writeFileSync(join(dir, 'gateway.toml'), configuration);
  writeFileSync(join(dir, UNIT), unit);
  const at = '/srv/repository';
  const machine = await boot(stage, [`${gatewayBin}:${at}/target/release/mcp-oauth-gateway`, `${join(dir, 'gateway.toml')}:${at}/gateway.toml`, `${join(dir, UNIT)}:${at}/deploy/${UNIT}`]);
  if (!machine) return;
  const shell = async (script, input = '') => {
    const r = await machine.shell(script, input);
    assert(r.code === 0, `${script.slice(0, 200)}\nended with ${r.code}: ${r.output}`);
    return r.output;
  };
  const shown = async (property) => (await shell(`systemctl show --value --property ${property} ${UNIT}`)).trim();
  const healthy = async () => {
    for (let i = 0; ; i++) {
      const r = await fetch(`${url}/health/ready`).catch(() => {});
      if (r?.status === 200) return;
      assert(i < 100, `not ready: ${(await machine.shell(`journalctl --no-pager -u ${UNIT} | tail -5`)).output}`);
      await sleep(100);
    }
  };

  await stage.must('it is installed and started by the commands of the manual', async () => {
    await shell(`cd ${at}\n${block('install -m 0755')}`, 'gateway-secret-for-tests-only');
    await healthy();
    equal(await shown('ActiveState'), 'active', 'state');
  });
  await stage.check('systemd has nothing to say about the unit', async () => equal((await shell(`systemd-analyze verify ${UNIT} 2>&1`)).trim(), '', 'verify'));
  await stage.check('what it may do is little', async () => {
    const said = await shell(`systemd-analyze --no-pager security --threshold=${EXPOSURE} ${UNIT} | tail -1`);
    const score = /exposure level[^:]*: ([0-9.]+)/.exec(said)?.[1];
    assert(score && Number(score) * 10 <= EXPOSURE, said);
    console.log(`       exposure ${score} of at most ${EXPOSURE / 10}`);
  });
  await stage.check('the process has no rights', async () => {
    const status = await shell(`cat /proc/$(systemctl show --value --property MainPID ${UNIT})/status`);
    const is = (key) => new RegExp(`^${key}:\\s*(\\S+)`, 'm').exec(status)?.[1];
    assert(Number(is('Uid')) >= 61184, `user ${is('Uid')}, not one of systemd's own`);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) equal(is(set), '0000000000000000', set);
    equal([is('NoNewPrivs'), is('Seccomp'), is('Umask')], ['1', '2', '0077'], 'no new rights, filter, umask');
  });
  await stage.check('it sees nothing of the machine, and writes in its own directory only', async () => {
    // A test program with the same sandbox: bash, which would rather not.
    const inside = (script) => machine.shell(`systemd-run --quiet --pipe --wait ${sandbox(unit)} bash -c '${script}'`);
    const r = await inside(`touch /etc/x /usr/x /var/x; touch ${DATA}/x && rm ${DATA}/x && echo own; ls -A /home /root; ls /dev/kmsg; cat /etc/mcp-oauth-gateway/secrets/github`);
    assert(/^own$/m.test(r.output), r.output);
    for (const path of ['/etc/x', '/usr/x', '/var/x']) assert(r.output.includes(`cannot touch '${path}': Read-only file system`), `${path}: ${r.output}`);
    assert(/secrets\/github: Permission denied/.test(r.output) && /\/dev\/kmsg': No such file/.test(r.output), r.output);
  });

  let s;
  const life = async (password) => {
    if (password) s = await login(`${url}/mcp/github`, { user: 'gateway', password });
    else {
      const next = await token(s.as, { grant_type: 'refresh_token', refresh_token: s.tokens.refresh_token, client_id: s.client.client_id });
      equal(next.status, 200, `refresh: ${next.text}`);
      s.tokens = next.body;
    }
    await callSimple(`${url}/mcp/github`, s.tokens.access_token);
  };
  await stage.must('sign-in with the first password, and with the secret that systemd hands over', async () => life((await shell(`cat ${DATA}/initial-password`)).trim()));
  await stage.check('reloading takes a new service', async () => {
    await shell(`printf '\\n[services.more]\\nurl = "${upstream.mcp}"\\n' >> /etc/mcp-oauth-gateway/gateway.toml && systemctl reload ${UNIT}`);
    for (let i = 0; (await fetch(`${url}/.well-known/oauth-protected-resource/mcp/more`)).status !== 200; i++) { assert(i < 50, 'it is not served'); await sleep(100); }
    await life();
  });
  await stage.check('after kill -9 systemd starts it again, and the same tokens go on', async () => {
    await shell(`systemctl kill --signal=KILL ${UNIT}`);
    await sleep(500);
    await healthy();
    equal(await shown('NRestarts'), '1', 'restarts');
    await life();
  });
  await stage.check('keys are rotated by the command of the manual, while it runs', async () => {
    await shell(block('systemd-run'));
    equal(JSON.parse(await shell(`cat ${DATA}/keys.json`)).keys.length, 2, 'keys');
    equal((await shell(`stat -c '%U %a' ${DATA}/keys.json`)).trim(), 'mcp-oauth-gateway 600', 'whose they are');
    await life();
  });
  await stage.check('with every system call deadly that the unit forbids', async () => {
    await shell(`mkdir -p /run/systemd/system/${UNIT}.d && printf '[Service]\\nSystemCallErrorNumber=\\nRestart=no\\n' > /run/systemd/system/${UNIT}.d/deadly.conf && systemctl daemon-reload && systemctl restart ${UNIT}`);
    await healthy();
    await life();
    await shell(`systemctl reload ${UNIT}`);
    await life();
    const [, name] = [await shell(`systemctl stop ${UNIT}`), await shown('Result')];
    equal([name, await shown('ExecMainStatus')], ['success', '0'], 'how it ended');
  });
  await stage.check('its log is one JSON object a line, in the journal', async () => {
    const lines = (await shell(`journalctl --no-pager --output=cat --unit=${UNIT} _COMM=mcp-oauth-gatew`)).trim().split('\n');
    assert(lines.length > 10, `${lines.length} lines`);
    for (const line of lines) assert(JSON.parse(line).level, line);
    assert(!lines.some((line) => line.includes('gateway-secret') || line.includes(PASSWORD)), 'a secret');
  });
}

// The text with each placeholder, which must be there, made what the test needs.
function filled(text, by) {
  for (const [from, to] of Object.entries(by)) {
    assert(text.includes(from), `no ${from}`);
    text = text.replaceAll(from, to);
  }
  return text;
}

// The unit's own lines about its sandbox, as arguments of systemd-run.
function sandbox(unit) {
  const service = unit.slice(unit.indexOf('[Service]'), unit.indexOf('[Install]'));
  const lines = service.split('\n').filter((line) => /^[A-Z][A-Za-z]+=/.test(line) && !/^(Type|Exec|Restart|KillMode|TimeoutStop|EnvironmentFile)/.test(line));
  return lines.map((line) => `-p '${line.replaceAll('%', '%%')}'`).join(' ');
}
