// Compiled, not run: the adapters fit the frameworks' own types.
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { ResourceServer, type AccessToken } from 'mcp-oauth-gateway';
import { protect as expressProtect } from 'mcp-oauth-gateway/express';
import { protect as fastifyProtect } from 'mcp-oauth-gateway/fastify';
import { protect as honoProtect, type AuthVariables } from 'mcp-oauth-gateway/hono';

const server = new ResourceServer({ issuer: 'https://gw.example/mcp/files', resource: 'https://files.example/mcp', key: process.env.KEY });

const hono = new Hono<{ Variables: AuthVariables }>();
hono.use(honoProtect(server));
hono.get('/', (c) => c.text(c.get('auth').clientId));

express().use(expressProtect(server));
await fastify().register(fastifyProtect(server));

const request = new Request('https://files.example/mcp');
const outcome: Response | AccessToken | undefined = await server.handle(request);
export { outcome };
