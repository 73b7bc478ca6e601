// The npm package as a middleware in front of pieces/upstream.mjs. It is copied into the folder where the packed package is
// installed.
import { ResourceServer } from 'mcp-oauth-gateway';
import { protect } from 'mcp-oauth-gateway/express';

export default protect(new ResourceServer({ issuer: process.env.ISSUER, resource: process.env.RESOURCE, key: process.env.KEY, requiredScopes: ['read'] }));
