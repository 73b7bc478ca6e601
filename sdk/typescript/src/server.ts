/** The rules of one protected server. */
import { type Answer, GatewayUnavailable, Refusal } from './errors.js';
import { type Fetch, Gateway, type Warn } from './gateway.js';
import { calledTools, limitedBody, parsedBody } from './messages.js';
import type { AccessToken } from './token.js';
import { Verifier } from './verifier.js';

export interface ResourceServerOptions {
  /** The issuer that the gateway shows for this server, such as `https://gw.example.com/mcp/files`. */
  issuer: string;
  /** The URL of this server, exactly as registered at the gateway. */
  resource: string;
  /** The server's key (`sk_…`). Without it only JWTs are accepted. */
  key?: string | undefined;
  /** What every request needs. */
  requiredScopes?: readonly string[];
  /** What the calls of a tool need in addition. */
  toolScopes?: Readonly<Record<string, readonly string[]>>;
  /** What requests at and below a path need in addition. */
  routeScopes?: Readonly<Record<string, readonly string[]>>;
  /** Paths that need no token; exact. */
  publicPaths?: readonly string[];
  resourceName?: string;
  /** Default: ES256 alone, which the gateway uses. */
  algorithms?: readonly string[];
  maxCachedTokens?: number;
  timeoutMs?: number;
  fetch?: Fetch;
  warn?: Warn;
  /** Unix seconds. */
  clock?: () => number;
}

/** A request, independent of any framework. */
export interface Incoming {
  method: string;
  /** The path of the URL as received, without the query. */
  path: string;
  /** Every `Authorization` header. */
  authorization: readonly string[];
  header(name: string): string | undefined;
  /** The parsed JSON body; called at most once, and only if tools have scopes. */
  body(): Promise<unknown>;
}

/** What becomes of a request: a response, or the application's turn, without a token on open paths. */
export type Outcome = { answer: Answer } | { token: AccessToken | undefined };

const FORMS = ['application/x-www-form-urlencoded', 'multipart/form-data'];
const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

/** An MCP server whose tokens come from a gateway. */
export class ResourceServer {
  readonly issuer: string;
  readonly resource: string;
  readonly requiredScopes: readonly string[];
  readonly metadataPath: string;
  readonly metadataUrl: string;
  readonly #path: string;
  readonly #tools: Map<string, readonly string[]>;
  readonly #routes: [string, readonly string[]][];
  readonly #publicPaths: Set<string>;
  readonly #name: string | undefined;
  readonly #verifier: Verifier;

  constructor(options: ResourceServerOptions) {
    checkUrl('issuer', options.issuer);
    const url = checkUrl('resource', options.resource);
    this.issuer = options.issuer;
    this.resource = options.resource;
    this.requiredScopes = options.requiredScopes ?? [];
    this.#path = url.pathname;
    this.metadataPath = `/.well-known/oauth-protected-resource${url.pathname === '/' ? '' : url.pathname}`;
    this.metadataUrl = url.origin + this.metadataPath;
    this.#tools = new Map(Object.entries(options.toolScopes ?? {}));
    this.#routes = Object.entries(options.routeScopes ?? {}).map(([path, scopes]) => [comparable(path).replace(/\/$/, ''), scopes]);
    this.#publicPaths = new Set(options.publicPaths ?? []);
    this.#name = options.resourceName;
    const clock = options.clock ?? (() => Date.now() / 1000);
    const gateway = new Gateway({
      issuer: options.issuer,
      key: options.key,
      timeoutMs: options.timeoutMs ?? 3000,
      fetch: options.fetch ?? ((target, init) => fetch(target, init)),
      warn: options.warn ?? ((message, fields) => console.warn(message, fields)),
      clock,
    });
    this.#verifier = new Verifier(gateway, this, {
      algorithms: [...(options.algorithms ?? ['ES256'])],
      maxCached: options.maxCachedTokens ?? 10_000,
      clock,
    });
  }

  /** Every scope that some request needs. */
  get scopesSupported(): string[] {
    return union(this.requiredScopes, ...this.#tools.values(), ...this.#routes.map(([, scopes]) => scopes));
  }

  /** The protected resource metadata (RFC 9728 §2). */
  metadata(): Record<string, unknown> {
    return {
      resource: this.resource,
      authorization_servers: [this.issuer],
      bearer_methods_supported: ['header'],
      ...(this.scopesSupported.length > 0 && { scopes_supported: this.scopesSupported }),
      ...(this.#name !== undefined && { resource_name: this.#name }),
    };
  }

  /**
   * The content of a token that is valid at this server, whatever its scopes.
   *
   * @throws Refusal: the token is not valid here. GatewayUnavailable: the gateway cannot be asked.
   */
  verifyToken(token: string): Promise<AccessToken> {
    return this.#verifier.verify(token);
  }

  /** Decides about a request. It throws only what is no refusal. */
  async check(request: Incoming): Promise<Outcome> {
    if (request.path === this.metadataPath && (request.method === 'GET' || request.method === 'HEAD')) return { answer: this.#metadataAnswer() };
    if (request.method === 'OPTIONS' || this.#publicPaths.has(request.path)) return { token: undefined };
    try {
      const scopes = this.#scopesOfPath(request.path);
      const token = await this.#authenticate(request.authorization, scopes);
      if (this.#mayCallTools(request)) {
        const names = calledTools(await request.body(), request.header('mcp-method'), request.header('mcp-name'));
        this.#require(token, [...scopes, ...names.flatMap((name) => this.#tools.get(name) ?? [])]);
      }
      return { token };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { answer: error.answer(this.metadataUrl) };
    }
  }

  /**
   * Decides about a web request: a `Response` to send, or the token. Undefined: an open path.
   * The request's body can still be read.
   */
  async handle(request: Request): Promise<Response | AccessToken | undefined> {
    const authorization = request.headers.get('authorization');
    const outcome = await this.check({
      method: request.method,
      path: new URL(request.url).pathname,
      // Repeated headers are joined by a comma here, which no token contains.
      authorization: authorization === null ? [] : [authorization],
      header: (name) => request.headers.get(name) ?? undefined,
      body: async () => parsedBody(await limitedBody(chunks(request.clone()))),
    });
    if ('token' in outcome) return outcome.token;
    const { status, headers, body } = outcome.answer;
    return new Response(body, { status, headers });
  }

  async #authenticate(authorization: readonly string[], scopes: readonly string[]): Promise<AccessToken> {
    const needed = union(this.requiredScopes, scopes);
    const bearer = bearerToken(authorization, needed);
    let token: AccessToken;
    try {
      token = await this.#verifier.verify(bearer);
    } catch (error) {
      if (!(error instanceof Refusal) || error instanceof GatewayUnavailable) throw error;
      throw new Refusal(error.status, error.error, error.message, needed);
    }
    this.#require(token, scopes);
    return token;
  }

  #require(token: AccessToken, scopes: readonly string[]): void {
    const needed = union(this.requiredScopes, scopes);
    if (needed.every((scope) => token.scopes.includes(scope))) return;
    throw new Refusal(403, 'insufficient_scope', 'The token lacks a scope. Ask for all of these.', needed);
  }

  #scopesOfPath(path: string): string[] {
    const wanted = comparable(path);
    return union(...this.#routes.filter(([prefix]) => wanted === prefix || wanted.startsWith(`${prefix}/`)).map(([, scopes]) => scopes));
  }

  #mayCallTools(request: Incoming): boolean {
    if (this.#tools.size === 0 || request.method !== 'POST') return false;
    const mediaType = (request.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
    return request.path.replace(/\/$/, '') === this.#path.replace(/\/$/, '') || !FORMS.includes(mediaType);
  }

  #metadataAnswer(): Answer {
    const headers = { 'content-type': 'application/json', 'cache-control': 'public, max-age=300', 'access-control-allow-origin': '*' };
    return { status: 200, headers, body: JSON.stringify(this.metadata()) };
  }
}

/** A path as the most lenient router reads it: decoded, in small letters, without empty segments. */
function comparable(path: string): string {
  let decoded = path;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    // Not an encoding: compare as it is.
  }
  return decoded.toLowerCase().replace(/\/+/g, '/');
}

function bearerToken(authorization: readonly string[], needed: readonly string[]): string {
  if (authorization.length > 1) throw new Refusal(400, 'invalid_request', 'The request has more than one Authorization header.');
  const [, scheme, value] = /^(\S*)(.*)$/s.exec((authorization[0] ?? '').trim())!;
  if (scheme!.toLowerCase() !== 'bearer') throw new Refusal(401, undefined, 'Send an access token of the authorization server as Bearer.', needed);
  const token = value!.trim();
  if (!TOKEN.test(token)) throw new Refusal(400, 'invalid_request', 'The Authorization header has no token, or more than one.');
  return token;
}

async function* chunks(request: Request): AsyncGenerator<Uint8Array> {
  const reader = request.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function union(...groups: (readonly string[])[]): string[] {
  return [...new Set(groups.flat())];
}

function checkUrl(name: string, value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const loopback = url !== undefined && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (!url || (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback)))
    throw new TypeError(`${name} must be an https URL (http only at this machine), not ${JSON.stringify(value)}`);
  if (url.username || url.password || url.search || url.hash) throw new TypeError(`${name} must have no user, query or fragment: ${JSON.stringify(value)}`);
  return url;
}
