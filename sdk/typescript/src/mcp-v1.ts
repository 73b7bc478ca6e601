/** The `OAuthTokenVerifier` of the MCP SDK 1.x (`@modelcontextprotocol/sdk`). */
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import type { OAuthTokenVerifier } from '@modelcontextprotocol/sdk/server/auth/provider.js';
import type { AuthInfo } from '@modelcontextprotocol/sdk/server/auth/types.js';
import { GatewayUnavailable, Refusal } from './errors.js';
import type { ResourceServer } from './server.js';

/**
 * `requireBearerAuth({ verifier: tokenVerifier(server), requiredScopes, resourceMetadataUrl: server.metadataUrl })`
 *
 * The SDK answers an outage with 500 and knows no scopes of tools: use `protect` of a framework where you can.
 */
export function tokenVerifier(server: ResourceServer): OAuthTokenVerifier {
  return {
    async verifyAccessToken(token: string): Promise<AuthInfo> {
      try {
        return await server.verifyToken(token);
      } catch (error) {
        if (error instanceof Refusal && !(error instanceof GatewayUnavailable)) throw new InvalidTokenError(error.message);
        throw error;
      }
    },
  };
}
