/** Which tools a JSON-RPC body calls. */
import { MessageRefusal } from './errors.js';

const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
const HEADER_MISMATCH = -32020;
export const MAX_BODY_BYTES = 4 * 1024 * 1024;

/**
 * The parsed body.
 *
 * @throws MessageRefusal: it is not JSON.
 */
export function parsedBody(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new MessageRefusal(PARSE_ERROR, 'The body is not JSON.');
  }
}

/**
 * The names of the tools that the messages call.
 *
 * @throws MessageRefusal: `Mcp-Method` or `Mcp-Name` contradicts the body.
 */
export function calledTools(document: unknown, methodHeader: string | undefined, nameHeader: string | undefined): string[] {
  const names: string[] = [];
  for (const message of Array.isArray(document) ? document : [document]) {
    if (typeof message !== 'object' || message === null) continue;
    const { id, method, params } = message as Record<string, unknown>;
    const requestId = typeof id === 'string' || typeof id === 'number' ? id : null;
    compare('Mcp-Method', methodHeader, method, requestId);
    if (method !== 'tools/call') continue;
    const name = typeof params === 'object' && params !== null ? (params as Record<string, unknown>).name : undefined;
    compare('Mcp-Name', nameHeader, name, requestId);
    if (typeof name === 'string') names.push(name);
  }
  return names;
}

/**
 * The whole body.
 *
 * @throws MessageRefusal: it is longer than `MAX_BODY_BYTES`.
 */
export async function limitedBody(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const read: Uint8Array[] = [];
  let size = 0;
  for await (const part of parts) {
    size += part.byteLength;
    if (size > MAX_BODY_BYTES) throw new MessageRefusal(INVALID_REQUEST, `The body is longer than ${MAX_BODY_BYTES} bytes.`, null, 413);
    read.push(part);
  }
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const part of read) {
    whole.set(part, offset);
    offset += part.byteLength;
  }
  return whole;
}

function compare(header: string, value: string | undefined, member: unknown, id: string | number | null): void {
  if (value === undefined || decoded(value.trim()) === member) return;
  throw new MessageRefusal(HEADER_MISMATCH, `The header ${header} contradicts the body.`, id);
}

function decoded(value: string): string {
  const encoded = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/.exec(value)?.[1];
  if (encoded === undefined) return value;
  return new TextDecoder().decode(Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0)));
}
