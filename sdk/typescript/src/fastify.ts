/** Fastify 5: `await app.register(protect(server))`; handlers find the token in `request.accessToken`. */
import type { IncomingMessage } from 'node:http';
import { authorizationHeaders, headerOf, pathOf } from './node.js';
import type { Incoming, Outcome, ResourceServer } from './server.js';
import type { AccessToken } from './token.js';

interface Request {
  raw: IncomingMessage;
  body: unknown;
}
interface Reply {
  code(status: number): Reply;
  headers(values: Record<string, string>): Reply;
  send(body: string): Reply;
}
type Hook = (request: Request, reply: Reply) => Promise<unknown>;
interface Instance {
  decorateRequest(name: string, value: unknown): unknown;
  addHook(name: 'onRequest' | 'preHandler', hook: Hook): unknown;
  get(path: string, handler: (request: Request, reply: Reply) => Promise<unknown>): unknown;
}

/** What handlers find. */
export interface WithAccessToken {
  accessToken: AccessToken | null;
}

/** A plugin that lets requests with a valid token pass on every route, and serves the protected resource metadata. */
export function protect(server: ResourceServer): (app: Instance) => Promise<void> {
  const plugin = async (app: Instance): Promise<void> => {
    app.decorateRequest('accessToken', null);
    // Before the body is read, only the headers decide.
    app.addHook('onRequest', (request, reply) => hook(server, { ...incoming(request), body: async () => undefined }, request, reply));
    app.addHook('preHandler', async (request, reply) => {
      // Only a POST calls tools.
      if (request.raw.method === 'POST') await hook(server, incoming(request), request, reply);
    });
    app.get(server.metadataPath, async (_, reply) => reply.headers({ 'content-type': 'application/json' }).send(JSON.stringify(server.metadata())));
  };
  // Its hooks act on the whole application, not on its own routes alone.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true });
}

async function hook(server: ResourceServer, wanted: Incoming, request: Request, reply: Reply): Promise<unknown> {
  const outcome: Outcome = await server.check(wanted);
  if ('answer' in outcome) return reply.code(outcome.answer.status).headers(outcome.answer.headers).send(outcome.answer.body);
  if (outcome.token) {
    Object.assign(request, { accessToken: outcome.token });
    // The MCP SDK's transport reads `auth` of the raw request.
    Object.assign(request.raw, { auth: outcome.token });
  }
  return undefined;
}

function incoming(request: Request): Incoming {
  return {
    method: request.raw.method ?? 'GET',
    path: pathOf(request.raw.url),
    authorization: authorizationHeaders(request.raw),
    header: (name) => headerOf(request.raw, name),
    body: async () => request.body,
  };
}
