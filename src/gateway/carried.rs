//! Where nothing is kept (`store = "none"`): what travels, whether it fits, and what comes back.

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::authorize::{FlowRecord, GatewayLogin, Returned, UpstreamRedirect};
use crate::flow::carried::{CodeCarried, ToExchange};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::code::{Obtained, Redeemed, Redemption, SPENT_TTL};
use crate::flow::grant::GrantRecord;
use crate::flow::held::{Brought, Rules};
use crate::flow::rejected::Rejected;
use crate::gateway::Gateway;
use crate::gateway::authorize::{Flow, missed};
use crate::gateway::callback::Home;
use crate::gateway::live::Running;
use crate::gateway::rejection::Rejection;
use crate::oauth::authorize::BadRequest;
use crate::oauth::error::Code;
use crate::service::Service;
use crate::store::{Handle, Missed, Moved};
use crate::token::half::{Carried, Half};
use crate::token::pair::{self, Opened};

/// The longest cookie of a journey, in bytes: browsers take 4096 with its name.
const COOKIE: usize = 3_584;
/// The form's key in it, and a dot.
const KEY: usize = 44;
/// What signing in and consent may add to a journey, in bytes of the cookie.
const GROWS: usize = 800;
/// The longest `state` of a client, in bytes: it travels in that cookie.
const STATE: usize = 512;
/// The longest code, in bytes: it is a part of an address. With an upstream code of up to 500 bytes it is under 1.5 KB.
const CODE: usize = 4_096;

impl Gateway {
    /// The rules of a service about refreshing, here.
    pub(crate) fn rules(&self, running: &Running) -> Rules {
        Rules {
            carried: self.store.carries(),
            ..running.rules()
        }
    }

    /// Whether a client's `state` may travel with the journey.
    pub(super) fn travels_with(&self, state: Option<&str>) -> Result<(), Rejection> {
        match state.map(str::len) {
            Some(length) if self.store.carries() && length > STATE => Err(too_long(format!(
                "state is {length} bytes long, and may have {STATE} at this gateway"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The upstream's code goes on to the client, sealed in ours.
    pub(super) async fn handed_on(&self, flow: Flow, brought: Returned<'_>, code: &str) -> Result<Home, Rejection> {
        let (now, code) = (self.clock.now(), Secret::from(code));
        let step = |s: UpstreamRedirect| s.handed_on(brought, code.clone(), now);
        let moved = self.store.transition(&flow, step).await.map_err(missed)?;
        Ok(home(flow, moved))
    }

    /// As [`Gateway::granted_here`]. What a user gave may not travel in an address.
    pub(super) async fn granted_carried(&self, flow: &Flow, form: Option<&str>, obtained: Option<&Obtained>) -> Result<Home, Rejection> {
        if obtained.is_some() {
            return Err(Rejection::Unknown("this gateway keeps nothing, so it can take no key of a user"));
        }
        let now = self.clock.now();
        let moved = self.store.transition(flow, |s: GatewayLogin| s.carried(form, now)).await;
        let moved = moved.map_err(missed)?;
        self.waiting.left(flow.id());
        Ok(home(flow.clone(), moved))
    }

    /// The client redeems a code that is the record itself.
    pub(super) async fn redeem_carried(
        &self,
        flow: &Flow,
        by: &Authenticated,
        with: Redemption<'_>,
        grant: Id,
    ) -> Result<(Redeemed, Option<ToExchange>), Missed<Rejected>> {
        let now = self.clock.now();
        let redeem = |s: CodeCarried| s.redeem(by, with, grant, now);
        // Whoever may not redeem it does not use it up elsewhere, either.
        if let Some(FlowRecord::CodeCarried(code)) = self.store.brought(flow)? {
            redeem(code).map_err(Missed::Rejected)?;
        }
        let is_first = self.is_first_with(with.code, now.after(SPENT_TTL)).await?;
        let moved = self.store.transition(flow, redeem).await?;
        if is_first {
            Ok(moved.out)
        } else {
            // As if it had been redeemed here.
            Err(Missed::OtherState)
        }
    }

    /// Exchanges the upstream's code, if ours carried one: now that ours is good, and used up here. Elsewhere the upstream
    /// refuses the second exchange.
    pub(super) async fn unlocked_by(
        &self,
        running: &Running,
        redeemed: Redeemed,
        to_exchange: Option<ToExchange>,
    ) -> Result<Redeemed, Rejection> {
        let Some(ToExchange { code, exchange }) = to_exchange else {
            return Ok(redeemed);
        };
        // First: a user who may not use the service burns no code.
        self.stands(&running.service, &redeemed.way, &redeemed.who)?;
        let tokens = self.exchanged(running, &code, &exchange).await.inspect_err(|why| {
            tracing::warn!(%why, "the upstream's code could not be exchanged");
        })?;
        let obtained = Obtained {
            issuer: Some(exchange.issuer),
            tokens,
        };
        Ok(Redeemed {
            obtained: Some(obtained),
            ..redeemed
        })
    }

    /// What a pair brings that carries its grant's record: the upstream's token is in there.
    pub(super) fn brought_by(&self, service: &Service, half: &Half, handle: &Handle<GrantRecord>) -> Result<Brought, Rejection> {
        let other = Rejection::Unknown("this refresh token is unknown or has ended; sign in again");
        let record = self.store.brought(handle)?;
        let held = record.as_ref().and_then(GrantRecord::held).ok_or_else(|| other.clone())?;
        let (carried, brought) = match held.latest() {
            None => (Carried::Nothing, Brought::Nothing),
            Some(tokens) => match &tokens.refresh {
                Some(token) => (Carried::Refresh, Brought::Refresh(token.clone())),
                None => (Carried::Access, Brought::Access(tokens.clone())),
            },
        };
        if held.generation() != half.generation || held.service != service.name {
            return Err(other);
        }
        if !service.upstream.renews_with(carried) {
            return Err(Rejection::Unknown("this service is unlocked in another way now; sign in again"));
        }
        Ok(brought)
    }
}

/// Whether a journey that begins fits its cookie, and will when it has grown.
pub(super) fn fits_and_grows(flow: &Flow) -> Result<(), Rejection> {
    let length = length(flow);
    if length + GROWS <= COOKIE {
        return Ok(());
    }
    Err(too_long(format!(
        "client_id, redirect_uri, state and scope are too long together for this gateway, by {} bytes",
        length + GROWS - COOKIE
    )))
}

/// Whether a journey still fits its cookie.
pub(super) fn fits(flow: &Flow) -> Result<(), Rejection> {
    if length(flow) <= COOKIE {
        return Ok(());
    }
    tracing::error!(
        length = length(flow),
        most = COOKIE,
        "a journey does not fit a cookie: what the identity provider says of the user, such as groups, is too long for store = \"none\""
    );
    Err(Rejection::Unknown(
        "too much is known of this user for this gateway, which keeps nothing; ask whoever runs it",
    ))
}

/// Whether a refresh pair can carry this grant, if it is to.
pub(super) fn is_short(grant: &Handle<GrantRecord>) -> bool {
    // Sealed once more, encoded once more, beside its header.
    grant.carried().is_none_or(|record| (record.len() + 600) * 4 / 3 <= pair::LONGEST)
}

/// The grant of a pair: by its name, or with the record that the pair carries.
pub(super) fn grant_of(opened: &Opened) -> Handle<GrantRecord> {
    let handle = Handle::of(opened.half.grant);
    if opened.half.carried == Carried::Grant {
        handle.bringing(opened.upstream.expose())
    } else {
        handle
    }
}

/// Back to the client, with the journey itself as its code.
fn home(flow: Flow, moved: Moved<CodeCarried, ReturnAddress>) -> Home {
    let back = moved.out;
    let code = Secret::from(format!("{}.{}", moved.handle, moved.handle.carried().unwrap_or_default()));
    let length = code.expose().len();
    let location = if length <= CODE {
        back.with_code(&code)
    } else {
        tracing::error!(
            length,
            most = CODE,
            "a code is too long for an address: the upstream's code is, or what is known of the user"
        );
        back.with_error(Code::ServerError, "the upstream's code is too long for this gateway")
    };
    Home { back, location, flow }
}

fn length(flow: &Flow) -> usize {
    flow.carried().map_or(0, |carried| carried.len() + KEY)
}

fn too_long(why: String) -> Rejection {
    Rejection::Authorize(BadRequest {
        code: Code::InvalidRequest,
        why,
    })
}
