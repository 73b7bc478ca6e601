//! Makes the two pairs of a generation from a grant and the upstream's tokens.

use serde_json::Value;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::held::Held;
use crate::gateway::Gateway;
use crate::oauth::answer::Tokens;
use crate::oauth::token;
use crate::token::half::{Carried, Half, Kind};
use crate::token::pair;

impl Gateway {
    /// The token response: the pairs of `generation`, with the minimum of both lifetimes.
    pub(crate) fn minted(&self, grant: Id, held: &Held, generation: u32, tokens: &Tokens, refreshes: bool) -> Value {
        let now = self.clock.now();
        let (access_ends, refresh_ends) = held.ends(tokens, self.service.ttl, now);
        // What the upstream says with its tokens is newer than what the grant began with (RFC 6749 §6).
        let scopes = tokens
            .scope
            .as_deref()
            .map_or_else(|| held.scopes.clone(), |granted| held.scopes.told(granted));
        let half = |kind, carried, expires, upstream_expires| Half {
            mode: self.service.mode,
            kind,
            carried,
            grant,
            generation,
            service: self.service.mark,
            client: Digest::of(&held.client_id).short(),
            expires,
            upstream_expires,
            subject: held.subject.clone(),
            scopes: scopes.to_string(),
        };
        let upstream_end = tokens.expires.unwrap_or(UnixTime::NEVER);
        let access = self.pair(
            &half(Kind::Access, Carried::Access, access_ends, upstream_end),
            tokens.access.expose(),
        );
        let refresh = refreshes.then(|| match &tokens.refresh {
            Some(token) => {
                let end = tokens.refresh_expires.unwrap_or(UnixTime::NEVER);
                self.pair(&half(Kind::Refresh, Carried::Refresh, refresh_ends, end), token.expose())
            }
            None => self.pair(
                &half(Kind::Refresh, Carried::Access, refresh_ends, upstream_end),
                tokens.access.expose(),
            ),
        });
        self.unproved.sent(grant, generation);
        token::response(&access, refresh.as_ref(), access_ends.since(now), &scopes)
    }

    fn pair(&self, half: &Half, upstream: &str) -> Secret {
        let token = pair::mint(&self.keys.load(), self.clock.now(), half, &Secret::from(upstream), random::fresh());
        if token.expose().len() > pair::COMFORTABLE {
            tracing::warn!(
                bytes = token.expose().len(),
                "the upstream's token is so long that the pair may not fit the headers of servers on the way"
            );
        }
        token
    }
}
