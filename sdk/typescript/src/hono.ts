/** Hono: `app.use(protect(server))`; handlers get the token by `c.get('auth')`. */
import type { ResourceServer } from './server.js';
import type { AccessToken } from './token.js';

/** What handlers find: `new Hono<{ Variables: AuthVariables }>()`. */
export interface AuthVariables {
  auth: AccessToken;
}

interface Context {
  req: { raw: Request };
  set(name: 'auth', token: AccessToken): void;
}

/** Middleware that lets requests with a valid token pass, and serves the protected resource metadata. */
export function protect(server: ResourceServer): (c: Context, next: () => Promise<void>) => Promise<Response | undefined> {
  return async (c, next) => {
    const result = await server.handle(c.req.raw);
    if (result instanceof Response) return result;
    if (result) c.set('auth', result);
    await next();
    return undefined;
  };
}
