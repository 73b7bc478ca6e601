// MCP by hand: one request of protocol 2026-07-28 (stateless), with a bearer token of one's own choice.
const M = 'io.modelcontextprotocol/';

export async function rpc(url, token, method, params = {}, headers = {}) {
  const name = params.name ?? params.uri;
  const r = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28', 'mcp-method': method, ...(name ? { 'mcp-name': name } : {}), ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: { [`${M}protocolVersion`]: '2026-07-28', [`${M}clientCapabilities`]: {} } } })
  });
  const text = await r.text();
  const data = /event-stream/.test(r.headers.get('content-type') ?? '') ? text.split('\n').filter((l) => l.startsWith('data: ')).at(-1)?.slice(6) : text;
  let body;
  try { body = JSON.parse(data); } catch {}
  return { status: r.status, headers: r.headers, text, body };
}

export const TEXT = 'This is a simple text response for testing.';
export async function callSimple(url, token) {
  const r = await rpc(url, token, 'tools/call', { name: 'test_simple_text', arguments: {} });
  const got = r.body?.result?.content?.[0]?.text;
  if (got !== TEXT) throw new Error(`tool call answered ${r.status} ${r.headers.get('www-authenticate') ?? ''} ${r.text.slice(0, 300)}`);
  return r;
}
