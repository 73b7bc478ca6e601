/** The `OAuthTokenVerifier` of the MCP SDK 2.x (`@modelcontextprotocol/server`). */
import { OAuthError, OAuthErrorCode, type AuthInfo, type OAuthTokenVerifier } from '@modelcontextprotocol/server';
import { GatewayUnavailable, Refusal } from './errors.js';
import type { ResourceServer } from './server.js';

/**
 * `requireBearerAuth({ verifier: tokenVerifier(server), expectedResource: new URL(server.resource) })`
 *
 * The SDK answers an outage with 500 and knows no scopes of tools: use `protect` of a framework where you can.
 */
export function tokenVerifier(server: ResourceServer): OAuthTokenVerifier {
  return {
    async verifyAccessToken(token: string): Promise<AuthInfo> {
      try {
        return await server.verifyToken(token);
      } catch (error) {
        if (error instanceof Refusal && !(error instanceof GatewayUnavailable)) throw new OAuthError(OAuthErrorCode.InvalidToken, error.message);
        throw error;
      }
    },
  };
}
