// The official SDKs for Node through the adapters: each script of the corpus, streaming and not, over two requests. Prints
// one JSON line per run. Usage: adapters.mjs BASE_URL MCP_URL CORPUS.json
import { readFileSync } from 'node:fs';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const [base, mcp, file] = process.argv.slice(2);
const corpus = JSON.parse(readFileSync(file, 'utf8'));
const openai = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: 'sk-node', maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: `${base}/anthropic`, apiKey: 'sk-node', maxRetries: 0 });
const script = (turns) => `script:${JSON.stringify(turns)}`;
const assert = (ok, what) => { if (!ok) throw new Error(JSON.stringify(what)); };

async function askOpenai(stream, { approval, ...more }) {
  const request = { model: 'gpt-5.6', tools: [{ type: 'mcp', server_label: 'tracker', server_url: mcp, require_approval: approval }], ...more };
  return stream ? openai.responses.stream(request).finalResponse() : openai.responses.create(request);
}

async function runOpenai(one, stream) {
  const approval = one.approval ?? 'never';
  let first = await askOpenai(stream, { input: script(one.turns), approval });
  const kinds = [first.output.map((item) => item.type)];
  const asked = first.output.filter((item) => item.type === 'mcp_approval_request');
  if (asked.length) {
    const input = asked.map((item) => ({ type: 'mcp_approval_response', approval_request_id: item.id, approve: true }));
    first = await askOpenai(stream, { previous_response_id: first.id, input, approval });
    kinds.push(first.output.map((item) => item.type));
  }
  const second = await askOpenai(stream, { previous_response_id: first.id, input: script([{ say: 'again', think: true }]), approval: 'never' });
  assert(second.output_text === 'again' || second.output.at(-1).content[0].text === 'again', second.output);
  return { kinds, usage: first.usage.total_tokens, text: first.output.at(-1).content?.[0]?.text ?? '' };
}

async function askAnthropic(stream, messages) {
  const request = {
    model: 'claude-opus-5', max_tokens: 1024, messages, betas: ['mcp-client-2025-11-20'],
    mcp_servers: [{ type: 'url', url: mcp, name: 'tracker' }], tools: [{ type: 'mcp_toolset', mcp_server_name: 'tracker' }],
  };
  return stream ? anthropic.beta.messages.stream(request).finalMessage() : anthropic.beta.messages.create(request);
}

async function runAnthropic(one, stream) {
  const messages = [{ role: 'user', content: script(one.turns) }];
  const first = await askAnthropic(stream, messages);
  messages.push({ role: 'assistant', content: first.content }, { role: 'user', content: script([{ say: 'again', think: true }]) });
  const second = await askAnthropic(stream, messages);
  assert(second.content.at(-1).text === 'again', second.content);
  return { kinds: [first.content.map((block) => block.type)], usage: first.usage.output_tokens, text: first.content.at(-1).text };
}

for (const one of corpus)
  for (const stream of [false, true])
    for (const [api, go] of [['openai', runOpenai], ['anthropic', runAnthropic]]) {
      if (one.only && !one.only.includes(api)) continue;
      const line = { case: one.name, api, stream };
      try { Object.assign(line, await go(one, stream)); } catch (error) { line.error = `${error.name}: ${error.message}`; }
      console.log(JSON.stringify(line));
    }
