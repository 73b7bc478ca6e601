/**
 * Protects an MCP server with tokens of mcp-oauth-gateway.
 *
 * The core works on web `Request`s; `./hono`, `./express`, `./fastify`, `./mcp` and `./mcp-v1` are adapters.
 */
export { GatewayUnavailable, MessageRefusal, Refusal, type Answer } from './errors.js';
export { ResourceServer, type Incoming, type Outcome, type ResourceServerOptions } from './server.js';
export type { AccessToken } from './token.js';
