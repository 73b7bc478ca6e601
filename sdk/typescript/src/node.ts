/** What the adapters for Node's own requests share. */
import type { IncomingMessage } from 'node:http';

/** Every `Authorization` header; Node's `headers` shows the first one only. */
export function authorizationHeaders(req: IncomingMessage): string[] {
  const found: string[] = [];
  for (let i = 0; i + 1 < req.rawHeaders.length; i += 2) {
    if (req.rawHeaders[i]!.toLowerCase() === 'authorization') found.push(req.rawHeaders[i + 1]!);
  }
  return found;
}

export function headerOf(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** The path of a request target. */
export function pathOf(target: string | undefined): string {
  const path = (target ?? '/').replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0]!;
  return path.startsWith('/') ? path : `/${path}`;
}
