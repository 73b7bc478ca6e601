// The official SDKs of OpenAI and Anthropic, in Python and Node, through the adapters, in front of a stand-in for the
// vendors that refuses reasoning after another conversation than before. Every stream must parse.
//   VENDOR_BIN=path   the stand-in (default target/debug/vendor: cargo build -p mcp-gateway-standin)
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ROOT, assert, equal, freePort, run } from '../lib/kit.mjs';

const echo = (text) => ({ name: 'tracker__echo', arguments: { text } });
const corpus = [
  { name: 'an answer', turns: [{ say: ['Hel', 'lo'], think: true }] },
  { name: 'a call', turns: [{ think: true, calls: [echo('a')] }, { think: true, say: 'Done.' }] },
  { name: 'three rounds', turns: [{ think: true, calls: [echo('a')] }, { think: true, calls: [echo('b')] }, { calls: [echo('c')] }, { say: 'Done.' }] },
  { name: 'parallel calls', turns: [{ think: true, calls: [echo('a'), { name: 'tracker__add', arguments: { a: 1, b: 2 } }, echo('')] }, { say: 'Done.' }] },
  { name: 'text before a call', turns: [{ think: true, say: ['I ', 'look.'], calls: [echo('a')] }, { say: 'Done.' }] },
  { name: 'no arguments', turns: [{ calls: [{ name: 'tracker__whoami', arguments: {} }] }, { say: 'Done.' }] },
  { name: 'wrong arguments', only: ['openai'], turns: [{ think: true, calls: [{ name: 'tracker__echo', arguments: '{"text":' }] }, { say: 'Sorry.' }] },
  { name: 'an approval', only: ['openai'], approval: 'always', turns: [{ think: true, calls: [echo('a')] }, { say: 'Done.' }] },
];

export default async function adapters(stage) {
  const bin = resolve(process.env.VENDOR_BIN ?? join(ROOT, '../../target/debug/vendor'));
  assert(existsSync(bin), `no stand-in at ${bin}: cargo build -p mcp-gateway-standin`);
  const vendor = await stage.start('vendor', bin, [], { ready: /^ready /m });
  const [, origin, mcp] = /^ready (\S+) (\S+)/m.exec(vendor.output());
  const port = await freePort();
  const gw = await stage.configured(port, `
[adapters.openai]
url = "${origin}"
[adapters.anthropic]
url = "${origin}"
[services.tracker]
url = "${mcp}"
access = "public"
upstream = "none"
`);
  await gw.start();
  const key = readFileSync(join(gw.line[3], 'adapter-key'), 'utf8').trim();
  const file = join(stage.dir, 'corpus.json');
  writeFileSync(file, JSON.stringify(corpus));
  const args = [`${gw.url}/k/${key}`, `${gw.url}/mcp/tracker`, file];
  const python = process.env.PEERS_PYTHON ?? join(ROOT, '.venv/bin/python');
  for (const [sdk, command, script] of [['python', python, 'adapters.py'], ['node', process.execPath, 'adapters.mjs']]) {
    const out = await stage.must(`${sdk}: the corpus runs`, async () => {
      const r = await run(stage, `sdk-${sdk}`, command, [join(ROOT, 'clients', script), ...args]);
      assert(r.code === 0, r.output.slice(-600));
      return r.stdout.trim().split('\n').map((line) => JSON.parse(line));
    });
    for (const one of out) await stage.check(`${sdk}: ${one.api}: ${one.case}${one.stream ? ', streamed' : ''}`, async () => {
      assert(!one.error, one.error);
      const plain = out.find((other) => other.api === one.api && other.case === one.case && !other.stream);
      equal([one.kinds, one.usage, one.text], [plain.kinds, plain.usage, plain.text], 'streamed and not');
    });
    equal(out.length, 28, `runs of ${sdk}`);
  }
  // The examples of the manual, as they are, except for addresses and key.
  const manual = readFileSync(join(ROOT, '../../docs/adapters.md'), 'utf8');
  const examples = [...manual.matchAll(/```python\n([^]*?)```/g)].map((found) => found[1]);
  equal(examples.length, 2, 'examples in the manual');
  for (const [index, example] of examples.entries()) await stage.check(`the example ${index + 1} of the manual answers`, async () => {
    const script = join(stage.dir, `example-${index}.py`);
    writeFileSync(script, example.replaceAll('http://localhost:8002', gw.url).replaceAll('/k/KEY/', `/k/${key}/`));
    const r = await run(stage, `example-${index}`, python, [script], { env: { OPENAI_API_KEY: 'sk-python', ANTHROPIC_API_KEY: 'sk-python' } });
    assert(r.code === 0 && r.stdout.includes('The tool says: Which open issues mention timeouts?'), r.output.slice(-600));
  });
  await stage.check('no log has a key', async () => {
    const log = readFileSync(join(stage.logs, 'gateway.log'), 'utf8');
    assert(!log.includes(key) && !/sk-(python|node)/.test(log), 'a key is in the log');
  });
}
