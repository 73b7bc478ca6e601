//! Makes the two pairs of a generation from a grant and the upstream's tokens.

use std::borrow::Cow;

use serde_json::Value;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::held::Held;
use crate::flow::who::Who;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::oauth::answer::Tokens;
use crate::oauth::token;
use crate::service::Upstream;
use crate::service::identity::Known;
use crate::token::half::{Carried, Half, Kind, Mode};
use crate::token::pair;

/// The upstream half of a pair: what it is, what it says, and when it ends.
struct Carries<'a> {
    carried: Carried,
    text: Cow<'a, str>,
    ends: UnixTime,
}

/// Who asked for tokens, and in whose name they get them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// The issuer whose endpoint was asked.
    pub(crate) issuer: &'a str,
    /// It gets a refresh token.
    pub(crate) refreshes: bool,
}

impl Gateway {
    /// The token response: the pairs of the grant's current generation, with the minimum of both lifetimes.
    pub(crate) fn minted(&self, grant: Id, running: &Running, held: &Held, tokens: Option<&Tokens>, asker: Asker<'_>) -> Value {
        let (now, service) = (self.clock.now(), &running.service);
        let (access_ends, refresh_ends) = held.ends(tokens, service.ttl, now);
        // What the upstream says with its tokens is newer than what the grant began with (RFC 6749 §6).
        let said = tokens.and_then(|tokens| tokens.scope.as_deref());
        let scopes = said.map_or_else(|| held.scopes.clone(), |granted| held.scopes.told(granted));
        let half = |kind, expires, upstream: &Carries<'_>| Half {
            mode: service.mode.of(kind),
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
        let pair = |kind, expires, upstream: &Carries<'_>| self.pair(&half(kind, expires, upstream), &upstream.text);
        let carries = for_access(&service.upstream, &held.who, tokens);
        let access = match service.mode {
            Mode::Sealed | Mode::Plain => pair(Kind::Access, access_ends, &carries),
            Mode::Jwt => {
                let half = half(Kind::Access, access_ends, &carries);
                let signed = self.jwt(service, asker.issuer, &held.client_id, &half, &Secret::from(&*carries.text));
                // Asked before: the keys do not vanish. If they did, this is a token that nobody takes.
                signed.unwrap_or_else(random::token)
            }
            #[cfg(feature = "raw")]
            Mode::Raw => Secret::from(&*carries.text),
        };
        let refresh = asker.refreshes.then(|| pair(Kind::Refresh, refresh_ends, &for_refresh(tokens)));
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

fn for_access<'a>(service: &Upstream, who: &Who, tokens: Option<&'a Tokens>) -> Carries<'a> {
    match (service, tokens) {
        (_, Some(tokens)) => the_token(tokens),
        (Upstream::Identity(chosen), None) => Carries {
            carried: Carried::Identity,
            text: Cow::Owned(chosen.carried(&known(who)).expose().to_owned()),
            ends: UnixTime::NEVER,
        },
        (Upstream::OAuth(_) | Upstream::Paste(_) | Upstream::Static(_) | Upstream::None, None) => NOTHING,
    }
}

/// Where the upstream gave nothing to refresh with, the refresh pair carries the access token, to be re-issued.
fn for_refresh(tokens: Option<&Tokens>) -> Carries<'_> {
    let Some(tokens) = tokens else { return NOTHING };
    match &tokens.refresh {
        Some(token) => Carries {
            carried: Carried::Refresh,
            text: Cow::Borrowed(token.expose()),
            ends: tokens.refresh_expires.unwrap_or(UnixTime::NEVER),
        },
        None => the_token(tokens),
    }
}

fn the_token(tokens: &Tokens) -> Carries<'_> {
    Carries {
        carried: Carried::Access,
        text: Cow::Borrowed(tokens.access.expose()),
        ends: tokens.expires.unwrap_or(UnixTime::NEVER),
    }
}

/// What a backend may be told of a user. One whom we know by a password has no other id than the name.
fn known(who: &Who) -> Known {
    match &who.identity {
        Some(identity) => Known {
            id: identity.id.clone(),
            provider: identity.provider.clone(),
            email: identity.email.clone(),
            name: identity.name.clone(),
            avatar: identity.avatar.clone(),
        },
        None => Known {
            id: who.subject.clone(),
            provider: PASSWORD.to_owned(),
            ..Known::default()
        },
    }
}

/// The provider of a user who signed in with a password here.
const PASSWORD: &str = "password";

const NOTHING: Carries<'static> = Carries {
    carried: Carried::Nothing,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};
