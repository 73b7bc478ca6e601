/** What a valid token says. */
import { invalidToken } from './errors.js';

export const CLOCK_SKEW_SECONDS = 30;
/** The lifetime that an introspected token without `exp` is given; the MCP SDK refuses tokens without an end. */
const ASSUMED_TTL_SECONDS = 60;

export type Claims = Record<string, unknown>;

/** A token that is valid here and now. It has the members of the MCP SDK's `AuthInfo`. */
export interface AccessToken {
  token: string;
  clientId: string;
  scopes: string[];
  /** Unix seconds. */
  expiresAt: number;
  resource: URL;
  resourceMetadataUrl: string;
  issuer: string;
  subject: string | undefined;
  /** `sub`, `iss` and `claims`, for handlers that get an `AuthInfo`. */
  extra: Record<string, unknown>;
}

/** Where tokens must come from, and what they must be for. */
export interface Expected {
  issuer: string;
  resource: string;
  metadataUrl: string;
}

/**
 * Checks what a JWT and an introspection response have in common.
 *
 * @throws Refusal: the token is expired, not for this server, or bound to a key (RFC 9449 §7.1).
 */
export function tokenFromClaims(token: string, claims: Claims, expected: Expected, now: number): AccessToken {
  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
  if (!audiences.includes(expected.resource)) throw invalidToken('The token is not for this server. Sign in for this server.');
  if (claims.cnf !== undefined && claims.cnf !== null) throw invalidToken('The token is bound to a key and cannot be sent as Bearer.');
  const end = seconds(claims, 'exp');
  if (end !== undefined && now >= end + CLOCK_SKEW_SECONDS) throw invalidToken('The token has expired.');
  for (const name of ['nbf', 'iat']) {
    const begin = seconds(claims, name);
    if (begin !== undefined && now < begin - CLOCK_SKEW_SECONDS) throw invalidToken('The token is not valid yet.');
  }
  const subject = typeof claims.sub === 'string' ? claims.sub : undefined;
  return {
    token,
    clientId: typeof claims.client_id === 'string' ? claims.client_id : '',
    scopes: typeof claims.scope === 'string' ? claims.scope.split(' ').filter(Boolean) : [],
    expiresAt: Math.floor(end ?? now + ASSUMED_TTL_SECONDS),
    resource: new URL(expected.resource),
    resourceMetadataUrl: expected.metadataUrl,
    issuer: expected.issuer,
    subject,
    extra: { sub: subject, iss: expected.issuer, claims },
  };
}

function seconds(claims: Claims, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw invalidToken(`The token's ${name} is not a time.`);
  return value;
}
