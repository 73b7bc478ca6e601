// An MCP server behind the npm package: node resource-server.mjs express|fastify. It is copied into the folder where the
// packed package is installed. ISSUER, RESOURCE and KEY come from the environment, as in an operator's own server.
import { ResourceServer } from 'mcp-oauth-gateway';

const server = new ResourceServer({ issuer: process.env.ISSUER, resource: process.env.RESOURCE, key: process.env.KEY, requiredScopes: ['read'], toolScopes: { write_file: ['write'] } });
const port = Number(new URL(server.resource).port);
const answer = (message, auth) => ({ jsonrpc: '2.0', id: message.id ?? null, result: { content: [{ type: 'text', text: `${auth.subject} called ${message.params?.name}` }] } });

if (process.argv[2] === 'express') {
  const { default: express } = await import('express');
  const { protect } = await import('mcp-oauth-gateway/express');
  const app = express();
  app.use(protect(server));
  app.use(express.json());
  app.post('/mcp', (req, res) => res.json(answer(req.body, req.auth)));
  app.listen(port, '127.0.0.1', () => console.log('ready'));
} else {
  const { default: fastify } = await import('fastify');
  const { protect } = await import('mcp-oauth-gateway/fastify');
  const app = fastify();
  await app.register(protect(server));
  app.post('/mcp', async (request) => answer(request.body, request.accessToken));
  await app.listen({ port, host: '127.0.0.1' });
  console.log('ready');
}
