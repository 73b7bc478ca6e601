/** Express 4 and 5: `app.use(protect(server))`; handlers, and the MCP SDK's transport, find the token in `req.auth`. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { limitedBody, parsedBody } from './messages.js';
import { authorizationHeaders, headerOf, pathOf } from './node.js';
import type { ResourceServer } from './server.js';
import type { AccessToken } from './token.js';

type Request = IncomingMessage & { originalUrl?: string; body?: unknown; _body?: boolean; auth?: unknown };

/** What handlers find. */
export interface WithAuth {
  auth: AccessToken;
}

/**
 * Middleware that lets requests with a valid token pass, and serves the protected resource metadata.
 * It reads JSON bodies if tools have scopes, so it may stand before or after `express.json()`.
 */
export function protect(server: ResourceServer): (req: Request, res: ServerResponse, next: (error?: unknown) => void) => void {
  return (req, res, next) => {
    check(server, req, res).then((passes) => {
      if (passes) next();
    }, next);
  };
}

async function check(server: ResourceServer, req: Request, res: ServerResponse): Promise<boolean> {
  const outcome = await server.check({
    method: req.method ?? 'GET',
    path: pathOf(req.originalUrl ?? req.url),
    authorization: authorizationHeaders(req),
    header: (name) => headerOf(req, name),
    body: () => bodyOf(req),
  });
  if ('token' in outcome) {
    if (outcome.token) req.auth = outcome.token;
    return true;
  }
  res.writeHead(outcome.answer.status, outcome.answer.headers).end(req.method === 'HEAD' ? undefined : outcome.answer.body);
  return false;
}

async function bodyOf(req: Request): Promise<unknown> {
  // `_body` is the sign of Express's own parsers; an empty `body` alone does not mean that the stream was read.
  if (!req._body && !req.readableEnded) {
    req.body = parsedBody(await limitedBody(req));
    req._body = true;
  }
  return req.body instanceof Uint8Array ? parsedBody(req.body) : typeof req.body === 'string' ? parsedBody(new TextEncoder().encode(req.body)) : req.body;
}
