// A machine to throw away (pieces/machine.sh), and commands in it.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './kit.mjs';

// Root's commands: as they are where we are root.
const asRoot = (...words) => (process.getuid() === 0 ? words : ['sudo', '-n', ...words]);

// What Node gives a program as standard input cannot be opened as /dev/stdin; a pipe can.
const PIPED = 'cat | sh -eu -c "$0"';

// Starts one, with copies of files and directories ("from:to"). Nothing, and a line that says why, where this machine does not allow it.
export async function boot(stage, files, { ownNetwork = false } = {}) {
  const [command, ...words] = asRoot('env', `MACHINE_NET=${ownNetwork ? 'own' : ''}`, join(ROOT, 'pieces/machine.sh'), mkdtempSync(join(stage.dir, 'machine-')), ...files);
  if (command === 'sudo' && spawnSync('sudo', ['-n', 'true']).status !== 0) return stage.skip('neither root nor sudo without a password');
  let output;
  try {
    output = (await stage.start('machine', command, words, { ready: /^ready \d+$/m, timeout: 60_000 })).output();
  } catch (e) {
    const [, why] = /^.*cannot: (.*)$/m.exec(e.message) ?? [];
    if (!why) throw e;
    return stage.skip(why);
  }
  const [, first] = /^ready (\d+)$/m.exec(output);
  return { shell: (script, input) => shell(asRoot('nsenter', '--target', first, '--all', 'sh', '-c', PIPED, script), input) };
}

function shell([program, ...words], input = '') {
  return new Promise((ok) => {
    const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: process.env.PATH, HOME: '/root' } });
    let output = '';
    for (const s of [child.stdout, child.stderr]) s.on('data', (d) => { output += d; });
    child.on('close', (code) => ok({ code, output }));
    child.on('error', (e) => ok({ code: -1, output: e.message }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
