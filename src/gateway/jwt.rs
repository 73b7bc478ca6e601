//! Access tokens that are one signed JWT: made for services that need nothing of the upstream's, and read again.

use crate::base::ids::{Digest, Id};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::gateway::Gateway;
use crate::gateway::assertion::told;
use crate::oauth::access_token::{self, AccessToken, Told};
use crate::oauth::jwt::{BadJwt, Unverified};
use crate::service::Service;
use crate::service::identity::{IdentityHeaders, Known};
use crate::token::half::{Carried, Half, Kind, Mode, ServiceMark};
use crate::token::pair::Opened;

const FOREIGN: &str = "the token is not one of this gateway";
const OTHER_SERVICE: &str = "the token is for another service";

impl Gateway {
    /// The token that says what `half` does, in the name of `issuer`; `None`: nothing can be signed yet.
    pub(crate) fn jwt(&self, service: &Service, issuer: &str, client_id: &str, half: &Half, carried: &Secret) -> Option<Secret> {
        let now = self.clock.now();
        let token = AccessToken {
            issuer: issuer.to_owned(),
            audience: self.site.canonical_of(service),
            subject: half.subject.clone(),
            client_id: client_id.to_owned(),
            scope: half.scopes.clone(),
            issued: now,
            expires: half.expires,
            id: Id::fresh(),
            grant: half.grant,
            generation: half.generation,
            service: service.name.clone(),
            person: IdentityHeaders::read(carried).map(|known| told(&known)),
        };
        let signed = self.signing()?.signed(access_token::TYPE, &token.claims(), now)?;
        Some(Secret::from(signed))
    }

    /// Reads a token of this service; when it ends is the caller's to judge. Only our own keys are asked, and the token
    /// must say that it is an access token: nothing else that we sign is one.
    pub(crate) fn opened_jwt(&self, service: &Service, token: &str) -> Result<Opened, &'static str> {
        let parsed = Unverified::parse(token).map_err(|_| FOREIGN)?;
        if parsed.kind.as_deref() != Some(access_token::TYPE) {
            return Err("this is not an access token");
        }
        let signing = self.signing().ok_or(FOREIGN)?;
        let key = signing.named(parsed.key_id.as_deref());
        let key = key.ok_or("the token was signed with a key that is not known here, or no longer")?;
        let claims = parsed.verified_by(key).map_err(|why| match why {
            BadJwt::Signature => "the token was changed",
            BadJwt::TooLong | BadJwt::Malformed | BadJwt::Critical | BadJwt::Algorithm | BadJwt::UnknownKey => FOREIGN,
        })?;
        let token = AccessToken::read(&claims).ok_or(FOREIGN)?;
        if token.audience != self.site.canonical_of(service) || !self.site.is_issuer(service, &token.issuer) {
            return Err(OTHER_SERVICE);
        }
        let (carried, upstream) = match &token.person {
            Some(person) => (Carried::Identity, serde_json::to_string(&known(person)).unwrap_or_default()),
            None => (Carried::Nothing, String::new()),
        };
        Ok(Opened {
            half: Half {
                mode: Mode::Jwt,
                kind: Kind::Access,
                carried,
                grant: token.grant,
                generation: token.generation,
                service: ServiceMark::of(&token.service),
                client: Digest::of(&token.client_id).short(),
                expires: token.expires,
                upstream_expires: UnixTime::NEVER,
                subject: token.subject,
                scopes: token.scope,
            },
            upstream: Secret::from(upstream),
        })
    }
}

fn known(person: &Told) -> Known {
    Known {
        id: person.id.clone(),
        provider: person.provider.clone(),
        email: person.email.clone(),
        name: person.name.clone(),
        avatar: person.picture.clone(),
    }
}
