//! Makes the two pairs of a generation from a grant and the upstream's tokens.

use std::borrow::Cow;

use serde_json::Value;

use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::grant::GrantRecord;
use crate::flow::held::Held;
use crate::flow::who::Who;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::gateway::rejection::Rejection;
use crate::oauth::answer::Tokens;
use crate::oauth::token;
use crate::service::Upstream;
use crate::service::identity::Known;
use crate::store::Handle;
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
    pub(crate) fn minted(
        &self,
        at: &Handle<GrantRecord>,
        running: &Running,
        held: &Held,
        tokens: Option<&Tokens>,
        asker: Asker<'_>,
    ) -> Result<Value, Rejection> {
        let (now, service, grant) = (self.clock.now(), &running.service, at.id());
        let (access_ends, refresh_ends) = held.ends(tokens, service.ttl, now);
        let scopes = held.scopes_with(tokens);
        let mode = if held.is_kept() { Mode::Reference } else { service.mode };
        if mode != service.mode {
            tracing::warn!(%grant, "the upstream's token is too long for a header: it is kept here, and the client gets a reference to it");
        }
        let half = |kind, expires, upstream: &Carries<'_>| Half {
            // A grant's record is nobody's to read, whatever the mode.
            mode: if upstream.carried == Carried::Grant {
                Mode::Sealed
            } else {
                mode.of(kind)
            },
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
        let (for_access, for_refresh) = if held.is_kept() {
            (KEPT, KEPT)
        } else {
            let for_refresh = at
                .carried()
                .map_or_else(|| for_refresh(tokens), |record| travelling(record, tokens));
            (for_access(&service.upstream, &held.who, tokens), for_refresh)
        };
        let access = match mode {
            Mode::Sealed | Mode::Plain | Mode::Reference => pair(Kind::Access, access_ends, &for_access),
            Mode::Jwt => {
                let half = half(Kind::Access, access_ends, &for_access);
                let signed = self.jwt(service, asker.issuer, &held.client_id, &half, &Secret::from(&*for_access.text));
                // Asked before; nothing is handed out that nobody would take.
                signed.ok_or(Rejection::Busy { retry_after: 1 })?
            }
            #[cfg(feature = "raw")]
            Mode::Raw => Secret::from(&*for_access.text),
        };
        let refresh = asker.refreshes.then(|| pair(Kind::Refresh, refresh_ends, &for_refresh));
        if at.carried().is_some() {
            warn_if_long(&access, refresh.as_ref());
        }
        self.unproved.sent(grant, held.generation());
        Ok(token::response(&access, refresh.as_ref(), access_ends.since(now), &scopes))
    }

    fn pair(&self, half: &Half, upstream: &str) -> Secret {
        pair::mint(&self.keys.load(), self.clock.now(), half, &Secret::from(upstream), random::fresh())
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

/// Where nothing is kept, the refresh pair carries all there is to know of its grant.
fn travelling<'a>(record: &'a str, tokens: Option<&Tokens>) -> Carries<'a> {
    Carries {
        carried: Carried::Grant,
        text: Cow::Borrowed(record),
        ends: for_refresh(tokens).ends,
    }
}

/// What is too long elsewhere is kept, and referred to; here there is nothing to fall back to.
fn warn_if_long(access: &Secret, refresh: Option<&Secret>) {
    if access.expose().len() > pair::COMFORTABLE || refresh.is_some_and(|pair| pair.expose().len() > pair::LONGEST) {
        tracing::warn!(
            access = access.expose().len(),
            refresh = refresh.map_or(0, |pair| pair.expose().len()),
            "the upstream's tokens make pairs that are too long, which a store would keep instead: with store = \"none\" they may be refused on the way, and a refresh token of more than 16 KiB is not read"
        );
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

const KEPT: Carries<'static> = Carries {
    carried: Carried::Reference,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};
