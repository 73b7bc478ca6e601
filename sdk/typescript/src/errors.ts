/** Why a request is refused, and the response that says so. */

export const RETRY_AFTER_SECONDS = 5;

/** A response, independent of any framework. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** A request that the server must not handle. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    /** The OAuth error code; undefined if the request had no authentication information (RFC 6750 §3). */
    readonly error: string | undefined,
    description: string,
    /** All scopes that the request needs. */
    readonly scopes: readonly string[] = [],
  ) {
    super(description);
    this.name = 'Refusal';
  }

  /** The value of `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1). */
  challenge(metadataUrl: string): string | undefined {
    const parameters: [string, string][] = [];
    if (this.error) parameters.push(['error', this.error], ['error_description', this.message]);
    parameters.push(['resource_metadata', metadataUrl]);
    if (this.scopes.length > 0) parameters.push(['scope', this.scopes.join(' ')]);
    return `Bearer ${parameters.map(([name, value]) => `${name}="${value.replace(/[^ !#-[\]-~]/g, '?')}"`).join(', ')}`;
  }

  protected content(): unknown {
    return { error: this.error ?? 'unauthorized', error_description: this.message };
  }

  /** The response. */
  answer(metadataUrl: string): Answer {
    const headers: Record<string, string> = { 'content-type': 'application/json', 'cache-control': 'no-store' };
    const challenge = this.challenge(metadataUrl);
    if (challenge !== undefined) headers['www-authenticate'] = challenge;
    return { status: this.status, headers, body: JSON.stringify(this.content()) };
  }
}

/** The gateway did not say whether the token is valid, so the request is refused for now. */
export class GatewayUnavailable extends Refusal {
  constructor(description: string) {
    super(503, 'temporarily_unavailable', description);
    this.name = 'GatewayUnavailable';
  }

  /** None: the client's token may be good. */
  override challenge(): string | undefined {
    return undefined;
  }

  override answer(metadataUrl: string): Answer {
    const answer = super.answer(metadataUrl);
    answer.headers['retry-after'] = String(RETRY_AFTER_SECONDS);
    return answer;
  }
}

/** A JSON-RPC message that cannot be read, or contradicts its headers. */
export class MessageRefusal extends Refusal {
  constructor(
    readonly code: number,
    message: string,
    readonly id: string | number | null = null,
    status = 400,
  ) {
    super(status, undefined, message);
    this.name = 'MessageRefusal';
  }

  /** None: the message is wrong, not the token. */
  override challenge(): string | undefined {
    return undefined;
  }

  protected override content(): unknown {
    return { jsonrpc: '2.0', id: this.id, error: { code: this.code, message: this.message } };
  }
}

/** The token is unknown, expired, or not for this server. */
export function invalidToken(description: string): Refusal {
  return new Refusal(401, 'invalid_token', description);
}
