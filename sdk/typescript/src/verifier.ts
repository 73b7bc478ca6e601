/** Decides whether a token is valid: a JWT by its signature, any other token by asking the gateway. */
import { compactVerify, decodeProtectedHeader } from 'jose';
import { type Refusal as RefusalType, Refusal, invalidToken } from './errors.js';
import { type Gateway, SingleFlight } from './gateway.js';
import { type AccessToken, type Claims, type Expected, tokenFromClaims } from './token.js';

const MAX_TOKEN_BYTES = 8192;
const ACTIVE_TTL_SECONDS = 60;
const INACTIVE_TTL_SECONDS = 5;
const ASYMMETRIC = /^(ES(256|384|512)|[RP]S(256|384|512)|EdDSA|Ed25519)$/;

interface Cached {
  until: number;
  result: AccessToken | RefusalType;
}

/** Verifies tokens of one issuer for one resource. */
export class Verifier {
  readonly #gateway: Gateway;
  readonly #expected: Expected;
  readonly #algorithms: string[];
  readonly #maxCached: number;
  readonly #clock: () => number;
  /** In the order of use, so that the first entry is the one to drop. */
  readonly #cache = new Map<string, Cached>();
  readonly #flights = new SingleFlight();

  constructor(gateway: Gateway, expected: Expected, options: { algorithms: string[]; maxCached: number; clock: () => number }) {
    if (options.algorithms.length === 0 || !options.algorithms.every((name) => ASYMMETRIC.test(name)))
      throw new TypeError(`algorithms must be asymmetric signature algorithms, not ${JSON.stringify(options.algorithms)}`);
    this.#gateway = gateway;
    this.#expected = expected;
    this.#algorithms = options.algorithms;
    this.#maxCached = options.maxCached;
    this.#clock = options.clock;
  }

  /**
   * The token's content.
   *
   * @throws Refusal: the token is not valid here. GatewayUnavailable: nobody knows.
   */
  async verify(token: string): Promise<AccessToken> {
    if (new TextEncoder().encode(token).byteLength > MAX_TOKEN_BYTES) throw invalidToken('The token is too long.');
    return token.split('.').length === 3 ? this.#verifyJwt(token) : this.#verifyOpaque(token);
  }

  async #verifyJwt(token: string): Promise<AccessToken> {
    const header = readHeader(token);
    const algorithm = header.alg;
    if (typeof algorithm !== 'string' || !this.#algorithms.includes(algorithm)) throw invalidToken("The token's algorithm is not accepted.");
    if (typeof header.typ !== 'string' || header.typ.toLowerCase().replace(/^application\//, '') !== 'at+jwt')
      throw invalidToken('The token is not an access token (RFC 9068 §4).');
    if (header.crit !== undefined) throw invalidToken('The token has critical extensions.');
    const key = typeof header.kid === 'string' ? await this.#gateway.publicKey(header.kid, algorithm) : undefined;
    if (!key) throw invalidToken("The token's key is unknown.");
    let claims: unknown;
    try {
      const { payload } = await compactVerify(token, key, { algorithms: this.#algorithms });
      claims = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    } catch {
      throw invalidToken("The token's signature is wrong.");
    }
    if (typeof claims !== 'object' || claims === null || (claims as Claims).iss !== this.#expected.issuer) throw invalidToken('The token is of another issuer.');
    if ((claims as Claims).exp === undefined || (claims as Claims).exp === null) throw invalidToken('The token has no expiry.');
    return tokenFromClaims(token, claims as Claims, this.#expected, this.#clock());
  }

  async #verifyOpaque(token: string): Promise<AccessToken> {
    const digest = await sha256(token);
    const result = this.#cached(digest) ?? (await this.#flights.run(digest, () => this.#introspect(token, digest)));
    if (result instanceof Refusal) throw invalidToken(result.message);
    return result;
  }

  async #introspect(token: string, digest: string): Promise<AccessToken | RefusalType> {
    const claims = await this.#gateway.introspect(token);
    const now = this.#clock();
    let result: AccessToken | RefusalType;
    try {
      if (!claims) throw invalidToken('The token is not active.');
      if (claims.iss !== undefined && claims.iss !== this.#expected.issuer) throw invalidToken('The token is of another issuer.');
      result = tokenFromClaims(token, claims, this.#expected, now);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      result = error;
    }
    const until = result instanceof Refusal ? now + INACTIVE_TTL_SECONDS : Math.min(now + ACTIVE_TTL_SECONDS, result.expiresAt);
    this.#cache.delete(digest);
    this.#cache.set(digest, { until, result });
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= this.#maxCached) break;
      this.#cache.delete(oldest);
    }
    return result;
  }

  #cached(digest: string): AccessToken | RefusalType | undefined {
    const entry = this.#cache.get(digest);
    if (!entry) return undefined;
    this.#cache.delete(digest);
    if (this.#clock() >= entry.until) return undefined;
    this.#cache.set(digest, entry);
    return entry.result;
  }
}

function readHeader(token: string): Record<string, unknown> {
  try {
    return decodeProtectedHeader(token) as Record<string, unknown>;
  } catch {
    throw invalidToken('The token cannot be read.');
  }
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
