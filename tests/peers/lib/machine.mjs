// A machine to throw away (pieces/machine.sh), and commands in it.
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './kit.mjs';

// Root's commands: as they are where we are root.
const asRoot = (...words) => (process.getuid() === 0 ? words : ['sudo', '-n', ...words]);

// What Node gives a program as standard input cannot be opened as /dev/stdin; a pipe can.
const PIPED = 'cat | sh -eu -c "$0"';

// Starts one, with copies of files ("from:to"). Nothing, and a line that says why, where this machine does not allow it.
export async function boot(stage, files) {
  const dir = mkdtempSync(join(stage.dir, 'machine-'));
  const [program, ...words] = asRoot(join(ROOT, 'pieces/machine.sh'), dir, ...files);
  const run = await stage.start('machine', program, words, { ready: /^(ready \d+|cannot: .*|sudo: .*)$/m, timeout: 60_000 });
  const [, first, refused] = /^(?:ready (\d+)|(?:cannot|sudo): (.*))$/m.exec(run.output());
  if (refused) { stage.skip(refused); return undefined; }
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
