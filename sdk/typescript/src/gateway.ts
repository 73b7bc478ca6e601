/** The gateway as this server sees it: its metadata, its keys and its introspection endpoint. */
import { importJWK, type CryptoKey, type JWK } from 'jose';
import { GatewayUnavailable } from './errors.js';
import type { Claims } from './token.js';

const MAX_RESPONSE_BYTES = 256 * 1024;
const KEYS_TTL_SECONDS = 600;
const REFETCH_SECONDS = 60;

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;
export type Warn = (message: string, fields: Record<string, string>) => void;

/** Runs one call per key at a time; callers of the same key share its result. */
export class SingleFlight {
  readonly #running = new Map<string, Promise<unknown>>();

  run<T>(key: string, call: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key) as Promise<T> | undefined;
    if (running) return running;
    const started = call().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }
}

export interface GatewayOptions {
  issuer: string;
  key: string | undefined;
  timeoutMs: number;
  fetch: Fetch;
  warn: Warn;
  /** Unix seconds. */
  clock: () => number;
}

/** Asks the gateway. Each answer that is not exactly as expected is an outage, never a yes. */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #flights = new SingleFlight();
  #endpoints: Map<string, string> | undefined;
  #keys: Map<string, JWK> | undefined;
  #imported = new Map<string, CryptoKey | undefined>();
  #keysAskedAt = 0;
  #unknownAskedAt: number | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
  }

  /**
   * The key with this id for this algorithm; undefined if the gateway publishes none.
   *
   * @throws GatewayUnavailable: the keys were never read.
   */
  async publicKey(kid: string, algorithm: string): Promise<CryptoKey | undefined> {
    const now = this.#options.clock();
    if (!this.#keys) await this.#flights.run('keys', () => this.#readKeys());
    else if (now - this.#keysAskedAt >= KEYS_TTL_SECONDS) await this.#renewKeys();
    if (!this.#keys?.has(kid) && this.#mayAskForUnknown(now)) {
      this.#unknownAskedAt = now;
      await this.#renewKeys();
    }
    const jwk = this.#keys?.get(kid);
    if (!jwk || (jwk.alg !== undefined && jwk.alg !== algorithm)) return undefined;
    const name = `${algorithm} ${kid}`;
    if (!this.#imported.has(name)) this.#imported.set(name, await imported(jwk, algorithm));
    return this.#imported.get(name);
  }

  /**
   * The claims of an active token; undefined if it is not active (RFC 7662 §2.2).
   *
   * @throws GatewayUnavailable: the gateway did not answer the question.
   */
  async introspect(token: string): Promise<Claims | undefined> {
    const key = this.#options.key;
    if (key === undefined) return undefined;
    const url = await this.#endpoint('introspection_endpoint');
    const answer = await this.#json(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ token, token_type_hint: 'access_token' }).toString(),
    });
    // Only the boolean counts: the string "false" is true in JavaScript.
    return answer.active === true ? answer : undefined;
  }

  #mayAskForUnknown(now: number): boolean {
    return this.#unknownAskedAt === undefined || now - this.#unknownAskedAt >= REFETCH_SECONDS;
  }

  async #renewKeys(): Promise<void> {
    try {
      await this.#flights.run('keys', () => this.#readKeys());
    } catch {
      // The keys that were read serve on; ask again in a minute.
      this.#keysAskedAt = this.#options.clock() - KEYS_TTL_SECONDS + REFETCH_SECONDS;
    }
  }

  async #readKeys(): Promise<void> {
    const document = await this.#json(await this.#endpoint('jwks_uri'), { method: 'GET' });
    if (!Array.isArray(document.keys)) throw this.#outage('the document of keys has no list `keys`');
    const keys = new Map<string, JWK>();
    for (const key of document.keys as JWK[]) {
      if (key && typeof key === 'object' && typeof key.kid === 'string' && (key.use ?? 'sig') === 'sig') keys.set(key.kid, key);
    }
    this.#keys = keys;
    this.#imported = new Map();
    this.#keysAskedAt = this.#options.clock();
  }

  async #endpoint(name: string): Promise<string> {
    if (!this.#endpoints) await this.#flights.run('metadata', () => this.#readMetadata());
    const url = this.#endpoints?.get(name);
    if (url === undefined) throw this.#outage(`the metadata names no ${name}`);
    return url;
  }

  async #readMetadata(): Promise<void> {
    const issuer = new URL(this.#options.issuer);
    const path = issuer.pathname.replace(/\/+$/, '');
    const document = await this.#json(`${issuer.origin}/.well-known/oauth-authorization-server${path}`, { method: 'GET' });
    if (document.issuer !== this.#options.issuer) throw this.#outage('the metadata is of another issuer (RFC 8414 §3.3)');
    const found = new Map<string, string>();
    for (const name of ['jwks_uri', 'introspection_endpoint']) {
      const url = document[name];
      // The key goes to this address, so it must be the gateway's.
      if (typeof url === 'string' && URL.canParse(url) && new URL(url).origin === issuer.origin) found.set(name, url);
    }
    this.#endpoints = found;
  }

  async #json(url: string, init: RequestInit): Promise<Record<string, unknown>> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.#options.timeoutMs);
    let status: number, mediaType: string, text: string;
    try {
      const response = await this.#options.fetch(url, { ...init, redirect: 'manual', signal: abort.signal });
      status = response.status;
      mediaType = (response.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
      text = await limitedText(response);
    } catch (error) {
      throw this.#outage(`${abort.signal.aborted ? 'no answer in time' : name(error)} at ${url}`);
    } finally {
      clearTimeout(timer);
    }
    if (status === 401 && init.method === 'POST') throw this.#outage(`${url} refused the key of this server: make a new one with \`servers keys add\``);
    if (status !== 200 || mediaType !== 'application/json') throw this.#outage(`${url} answered ${status} ${mediaType || 'without a type'}`);
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch {
      throw this.#outage(`${url} answered no JSON`);
    }
    if (typeof document !== 'object' || document === null || Array.isArray(document)) throw this.#outage(`${url} answered no JSON object`);
    return document as Record<string, unknown>;
  }

  #outage(reason: string): GatewayUnavailable {
    this.#options.warn('gateway unavailable', { issuer: this.#options.issuer, reason });
    return new GatewayUnavailable('The authorization server cannot be asked now. Try again later.');
  }
}

async function limitedText(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (!reader) return '';
  const decoder = new TextDecoder();
  let text = '';
  for (let size = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.byteLength;
    if (size > MAX_RESPONSE_BYTES) {
      await reader.cancel();
      throw new Error('too long');
    }
    text += decoder.decode(value, { stream: true });
  }
}

async function imported(jwk: JWK, algorithm: string): Promise<CryptoKey | undefined> {
  try {
    const key = await importJWK(jwk, algorithm);
    return key instanceof Uint8Array ? undefined : key;
  } catch {
    return undefined;
  }
}

function name(error: unknown): string {
  return error instanceof Error ? error.name : 'error';
}
