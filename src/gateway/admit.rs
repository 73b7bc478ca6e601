//! Who is let in at an MCP endpoint: what the service asks of its callers, held against what this one presents.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::gateway::proxy::Denied;
use crate::gateway::sessions::Owner;
use crate::oauth::bearer::{self, Presented};
use crate::oauth::scope::Scopes;
use crate::service::identity::{IdentityHeaders, Known};
use crate::service::{Access, Ours, Service, Upstream};
use crate::token::half::{Carried, Half, Kind, Mode};
use crate::token::pair::{self, BadPair, Opened};

/// Who was let in.
#[derive(Debug)]
pub(super) enum Caller {
    /// Anybody: a public service asks nothing, and knows nobody.
    Anybody,
    /// The holder of a token or of an API key, which said this.
    Holder(Half),
    /// Whoever holds something that may be a token of the upstream's.
    #[cfg(feature = "raw")]
    Stranger,
}

/// A request that may go on.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Whose it is.
    pub(super) caller: Caller,
    /// What goes upstream of ours.
    pub(super) ours: Ours,
}

impl Caller {
    /// Whether refreshing, or signing in anew, could change what the upstream thinks of it.
    pub(super) fn can_sign_in(&self) -> bool {
        match self {
            Self::Anybody => false,
            // What is the service's own stays what it is, whoever signs in.
            Self::Holder(half) => half.kind != Kind::Key && matches!(half.carried, Carried::Access | Carried::Reference),
            #[cfg(feature = "raw")]
            Self::Stranger => true,
        }
    }

    /// Whose the sessions are that this caller is given, where the upstream cannot tell.
    pub(super) fn owner(&self, service: &Service) -> Option<Owner<'_>> {
        match self {
            Self::Holder(half) if service.upstream.sees_all_alike() => Some(Owner {
                service: service.mark,
                subject: &half.subject,
            }),
            Self::Holder(_) | Self::Anybody => None,
            #[cfg(feature = "raw")]
            Self::Stranger => None,
        }
    }

    /// What ends the caller's streams when it ends: the grant, or the API key.
    pub(super) fn ends_with(&self) -> Option<Id> {
        match self {
            Self::Anybody => None,
            Self::Holder(half) => Some(half.grant),
            #[cfg(feature = "raw")]
            Self::Stranger => None,
        }
    }
}

impl Gateway {
    /// Judges by what the service asks of its callers. `source` is the caller's address, for limits only.
    pub(super) fn admitted(&self, running: &Running, headers: &HeaderMap, source: IpAddr) -> Result<Admitted, Denied> {
        match running.service.access {
            Access::Public => self.anybody(&running.service, source),
            Access::OAuth => self.holder(running, Kind::Access, headers),
            Access::Key => self.holder(running, Kind::Key, headers),
        }
    }

    /// No token is looked at, not even one that was sent: it is neither needed nor passed on.
    fn anybody(&self, service: &Service, source: IpAddr) -> Result<Admitted, Denied> {
        if !self.limits.anonymous(source, &self.site.trusted_proxies) {
            return Err(Denied::TooMany);
        }
        let ours = service.upstream.headers(Carried::Nothing, &Secret::from(""));
        Ok(Admitted {
            caller: Caller::Anybody,
            ours: ours.ok_or(Denied::Uncredited)?,
        })
    }

    /// Opens what was presented, all of it at once, and makes the credential for the upstream of it.
    fn holder(&self, running: &Running, kind: Kind, headers: &HeaderMap) -> Result<Admitted, Denied> {
        let (service, token) = (&running.service, presented(headers)?);
        #[cfg(feature = "raw")]
        if service.mode.of(kind) == Mode::Raw {
            return super::raw::admitted(service, token);
        }
        let Opened { half, upstream } = self.opened(service, kind, token)?;
        if half.kind != kind {
            return Err(Denied::BadToken(match kind {
                Kind::Key => "this is not an API key",
                Kind::Access | Kind::Refresh => "this is not an access token",
            }));
        }
        if half.service != service.mark {
            return Err(Denied::BadToken("the token is for another service"));
        }
        let refers = kind == Kind::Access && half.mode == Mode::Reference;
        if half.mode != service.mode.of(kind) && !refers {
            return Err(Denied::BadToken("the token is of a kind that this service does not take"));
        }
        if half.expires <= self.clock.now() {
            return Err(Denied::BadToken("the token has expired"));
        }
        if self.ended.contains(half.grant) {
            return Err(Denied::BadToken("the token was revoked"));
        }
        if !has_scopes(&half, &service.required_scopes) {
            return Err(Denied::TooFewScopes);
        }
        let ours = match &service.upstream {
            // What it refers to is looked up once it is let in.
            _ if half.carried == Carried::Reference => Some(Ours::Nothing),
            Upstream::Identity(chosen) => match whoever(&half, &upstream) {
                Some(known) => Some(self.introduced(running, chosen, &known, &half)?),
                None => None,
            },
            others => others.headers(half.carried, &upstream),
        };
        let ours = ours.ok_or(OTHER)?;
        Ok(Admitted {
            caller: Caller::Holder(half),
            ours,
        })
    }

    /// Who the caller is, in the words that the backend was promised.
    fn introduced(&self, running: &Running, chosen: &IdentityHeaders, known: &Known, half: &Half) -> Result<Ours, Denied> {
        let mut headers = chosen.of(known).ok_or(OTHER)?;
        if chosen.asserts() {
            headers.push(self.asserted(running, known, half).ok_or(Denied::NotReady)?);
        }
        Ok(Ours::Many(headers))
    }

    fn opened(&self, service: &Service, kind: Kind, token: &str) -> Result<Opened, Denied> {
        if service.mode.of(kind) == Mode::Jwt {
            if !self.can_sign() {
                return Err(Denied::NotReady);
            }
            return self.opened_jwt(service, token).map_err(Denied::BadToken);
        }
        pair::open(&self.keys.load(), token).map_err(|why| match why {
            BadPair::Shape => Denied::BadToken("the token is not one of this gateway"),
            BadPair::UnknownKey => Denied::BadToken("the token was sealed with a key that is no longer known"),
            BadPair::DoesNotOpen => Denied::BadToken("the token was changed"),
        })
    }
}

/// The pair is for something else.
pub(super) const OTHER: Denied = Denied::BadToken("the token carries something else than this service needs");

/// The token of the one header that may carry it.
fn presented(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let first = sent.next().and_then(|value| value.to_str().ok());
    if sent.next().is_some() {
        return Err(Denied::BadToken("more than one Authorization header"));
    }
    match bearer::parse(first) {
        Presented::Bearer(token) => Ok(token),
        Presented::Malformed => Err(Denied::BadToken("the token is malformed")),
        Presented::Nothing => Err(Denied::NoToken),
    }
}

/// Whom a backend is told of. A key carries nobody: it is told its name.
fn whoever(half: &Half, upstream: &Secret) -> Option<Known> {
    match (half.kind, half.carried) {
        (Kind::Key, _) => Some(named(&half.subject)),
        (Kind::Access | Kind::Refresh, Carried::Identity) => IdentityHeaders::read(upstream),
        (Kind::Access | Kind::Refresh, Carried::Access | Carried::Refresh | Carried::Nothing | Carried::Reference | Carried::Grant) => None,
    }
}

/// Read only where scopes are required at all.
fn has_scopes(half: &Half, required: &Scopes) -> bool {
    required.is_empty() || Scopes::parse(&half.scopes).covers(required)
}

/// Who a key is to a backend that trusts us.
fn named(key: &str) -> Known {
    Known {
        id: key.to_owned(),
        provider: "key".to_owned(),
        ..Known::default()
    }
}
