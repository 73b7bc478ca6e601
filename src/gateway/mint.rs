//! Makes the two pairs of a generation from a grant and the upstream's tokens.

use serde_json::Value;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::held::Held;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::oauth::answer::Tokens;
use crate::oauth::token;
use crate::token::half::{Carried, Half, Kind};
use crate::token::pair;

/// The upstream half of a pair: what it is, what it says, and when it ends.
struct Upstream<'a> {
    carried: Carried,
    text: &'a str,
    ends: UnixTime,
}

impl Gateway {
    /// The token response: the pairs of the grant's current generation, with the minimum of both lifetimes.
    pub(crate) fn minted(&self, grant: Id, running: &Running, held: &Held, tokens: Option<&Tokens>, refreshes: bool) -> Value {
        let (now, service) = (self.clock.now(), &running.service);
        let (access_ends, refresh_ends) = held.ends(tokens, service.ttl, now);
        // What the upstream says with its tokens is newer than what the grant began with (RFC 6749 §6).
        let said = tokens.and_then(|tokens| tokens.scope.as_deref());
        let scopes = said.map_or_else(|| held.scopes.clone(), |granted| held.scopes.told(granted));
        let pair = |kind, expires, upstream: &Upstream<'_>| {
            let half = Half {
                mode: service.mode,
                kind,
                carried: upstream.carried,
                grant,
                generation: held.generation(),
                service: service.mark,
                client: Digest::of(&held.client_id).short(),
                expires,
                upstream_expires: upstream.ends,
                subject: held.who.subject.clone(),
                scopes: scopes.to_string(),
            };
            self.pair(&half, upstream.text)
        };
        let access = pair(Kind::Access, access_ends, &for_access(tokens));
        let refresh = refreshes.then(|| pair(Kind::Refresh, refresh_ends, &for_refresh(tokens)));
        self.unproved.sent(grant, held.generation());
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

fn for_access(tokens: Option<&Tokens>) -> Upstream<'_> {
    match tokens {
        Some(tokens) => Upstream {
            carried: Carried::Access,
            text: tokens.access.expose(),
            ends: tokens.expires.unwrap_or(UnixTime::NEVER),
        },
        None => NOTHING,
    }
}

/// Where the upstream gave nothing to refresh with, the refresh pair carries the access token, to be re-issued.
fn for_refresh(tokens: Option<&Tokens>) -> Upstream<'_> {
    match tokens.and_then(|tokens| tokens.refresh.as_ref().map(|token| (tokens, token))) {
        Some((tokens, token)) => Upstream {
            carried: Carried::Refresh,
            text: token.expose(),
            ends: tokens.refresh_expires.unwrap_or(UnixTime::NEVER),
        },
        None => for_access(tokens),
    }
}

const NOTHING: Upstream<'static> = Upstream {
    carried: Carried::Nothing,
    text: "",
    ends: UnixTime::NEVER,
};
