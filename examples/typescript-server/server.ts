// An MCP server with notes in memory, protected by the gateway: Hono and the MCP SDK.
import { serve } from '@hono/node-server';
import { McpServer, WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { Hono } from 'hono';
import { ResourceServer } from 'mcp-oauth-gateway';
import { protect, type AuthVariables } from 'mcp-oauth-gateway/hono';
import { z } from 'zod';

const port = Number(process.env.PORT ?? 8011);
const server = new ResourceServer({
  issuer: process.env.GATEWAY_ISSUER ?? 'http://localhost:8002/mcp/notes',
  resource: process.env.RESOURCE ?? `http://localhost:${port}/mcp`,
  key: process.env.MCP_GATEWAY_SERVER_KEY,
  requiredScopes: ['notes:read'],
  toolScopes: { add_note: ['notes:write'] },
  resourceName: 'Notes',
});
/** The notes of each user. */
const notes = new Map<string, string[]>();

function mcpFor(user: string): McpServer {
  const mcp = new McpServer({ name: 'notes', version: '0.1.0' });
  mcp.registerTool('list_notes', { description: 'Lists your notes.', inputSchema: z.object({}) }, async () => ({
    content: [{ type: 'text', text: JSON.stringify(notes.get(user) ?? []) }],
  }));
  mcp.registerTool('add_note', { description: 'Adds a note. Needs the scope notes:write.', inputSchema: z.object({ text: z.string().max(1000) }) }, async ({ text }) => {
    notes.set(user, [...(notes.get(user) ?? []), text].slice(-100));
    return { content: [{ type: 'text', text: `${user} has ${notes.get(user)?.length} notes` }] };
  });
  return mcp;
}

const app = new Hono<{ Variables: AuthVariables }>();
app.use(protect(server));
app.all('/mcp', async (c) => {
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true });
  await mcpFor(c.get('auth').subject ?? 'nobody').connect(transport);
  return transport.handleRequest(c.req.raw, { authInfo: c.get('auth') });
});

serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, () => console.log(`http://localhost:${port}/mcp`));
