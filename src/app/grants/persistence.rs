//! Where nothing is kept (`store = "none"`): what travels, whether it fits, and what comes back.

use crate::app::Gateway;
use crate::app::authorize::start::{FlowHandle, flow_error};
use crate::app::authorize::upstream_callback::ClientRedirect;
use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::secret::Secret;
use crate::flow::authorize::{FlowRecord, GatewayLogin, UpstreamCallbackParams, UpstreamRedirect};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::code::{CodeRedemption, ObtainedTokens, RedeemedCode};
use crate::flow::error::RejectReason;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::{RefreshPayload, RefreshRules};
use crate::flow::stateless_code::{PendingExchange, StatelessCode};
use crate::oauth::authorization_request::RequestParamsError;
use crate::oauth::error::OAuthErrorCode;
use crate::service::Service;
use crate::store::{Handle, TransitionError, Transitioned};
use crate::token::header::{PairHeader, PayloadKind};
use crate::token::pair::{self, OpenedPair};

/// The longest cookie of a journey, in bytes: browsers take 4096 with its name.
const MAX_COOKIE_BYTES: usize = 3_584;
/// The form's key in it, and a dot.
const FORM_KEY_BYTES: usize = 44;
/// What signing in and consent may add to a journey, in bytes of the cookie.
const GROWTH_RESERVE_BYTES: usize = 800;
/// The longest `state` of a client, in bytes: it travels in that cookie.
const MAX_STATE_BYTES: usize = 512;
/// The longest code, in bytes: it is a part of an address. With an upstream code of up to 500 bytes it is under 1.5 KB.
const MAX_CODE_BYTES: usize = 4_096;

impl Gateway {
    /// The rules of a service about refreshing, here.
    pub(crate) fn rules(&self, running: &ActiveService) -> RefreshRules {
        RefreshRules {
            carried: self.store.is_stateless(),
            ..running.refresh_rules()
        }
    }

    /// The id of the grant that a code begins. Without a store it is derived from the code, so that every instance finds the same id.
    pub(crate) fn grant_of_code(&self, secret: &str) -> Id {
        if self.store.is_stateless() {
            Id(Digest::new(&format!("grant {secret}")).truncated())
        } else {
            Id::random()
        }
    }

    /// Whether a client's `state` may travel with the journey.
    pub(crate) fn check_state(&self, state: Option<&str>) -> Result<(), Rejection> {
        match state.map(str::len) {
            Some(length) if self.store.is_stateless() && length > MAX_STATE_BYTES => Err(too_long(format!(
                "state is {length} bytes long, and may have {MAX_STATE_BYTES} at this gateway"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The upstream's code goes on to the client, sealed in ours.
    pub(crate) async fn accept_upstream_code(
        &self,
        flow: FlowHandle,
        brought: UpstreamCallbackParams<'_>,
        code: &str,
    ) -> Result<ClientRedirect, Rejection> {
        let (now, code) = (self.clock.now(), Secret::from(code));
        let step = |s: UpstreamRedirect| s.returned_stateless(brought, code.clone(), now);
        let moved = self.store.transition(&flow, step).await.map_err(flow_error)?;
        Ok(client_redirect(flow, moved))
    }

    /// As [`Gateway::issue_code_after_consent`]. What a user gave may not travel in an address.
    pub(crate) async fn issue_code(
        &self,
        flow: &FlowHandle,
        form: Option<&str>,
        obtained: Option<&ObtainedTokens>,
    ) -> Result<ClientRedirect, Rejection> {
        if obtained.is_some() {
            return Err(Rejection::Unknown("this gateway keeps nothing, so it can take no key of a user"));
        }
        let now = self.clock.now();
        let moved = self.store.transition(flow, |s: GatewayLogin| s.granted_stateless(form, now)).await;
        let moved = moved.map_err(flow_error)?;
        self.waiting.remove(flow.id());
        Ok(client_redirect(flow.clone(), moved))
    }

    /// The client redeems a code that is the record itself.
    pub(crate) async fn redeem_client_side(
        &self,
        flow: &FlowHandle,
        by: &Authenticated,
        with: CodeRedemption<'_>,
        grant: Id,
    ) -> Result<(RedeemedCode, Option<PendingExchange>), TransitionError<RejectReason>> {
        let now = self.clock.now();
        let redeem = |s: StatelessCode| s.redeemed(by, with, grant, now);
        // An expired code, or a code with another redirect URI, is refused before the store is asked: it ends no grant.
        if let Some(FlowRecord::StatelessCode(code)) = self.store.supplied(flow)? {
            redeem(code).map_err(TransitionError::Rejected)?;
        }
        let moved = self.store.transition(flow, redeem).await?;
        Ok(moved.effect)
    }

    /// Exchanges the upstream's code, if ours carried one: now that ours is good, and used up here. Elsewhere the upstream
    /// refuses the second exchange.
    pub(crate) async fn exchange_sealed_code(
        &self,
        running: &ActiveService,
        redeemed: RedeemedCode,
        to_exchange: Option<PendingExchange>,
    ) -> Result<RedeemedCode, Rejection> {
        let Some(PendingExchange { code, exchange }) = to_exchange else {
            return Ok(redeemed);
        };
        // First: a user who may not use the service burns no code.
        self.check_flow(&running.service, &redeemed.way, &redeemed.who)?;
        let tokens = self.exchange_code(running, &code, &exchange).await.inspect_err(|why| {
            tracing::warn!(%why, "the upstream's code could not be exchanged");
        })?;
        let obtained = ObtainedTokens {
            issuer: Some(exchange.issuer),
            tokens,
        };
        Ok(RedeemedCode {
            obtained: Some(obtained),
            ..redeemed
        })
    }

    /// What a pair brings that carries its grant's record: the upstream's token is in there.
    pub(crate) fn refresh_payload(
        &self,
        service: &Service,
        half: &PairHeader,
        handle: &Handle<GrantRecord>,
    ) -> Result<RefreshPayload, Rejection> {
        let other = Rejection::Unknown("this refresh token is unknown or has ended; sign in again");
        let record = self.store.supplied(handle)?;
        let held = record.as_ref().and_then(GrantRecord::data).ok_or_else(|| other.clone())?;
        let (carried, brought) = match held.latest() {
            None => (PayloadKind::Nothing, RefreshPayload::Nothing),
            Some(tokens) => match &tokens.refresh {
                Some(token) => (PayloadKind::Refresh, RefreshPayload::Refresh(token.clone())),
                None => (PayloadKind::Access, RefreshPayload::Access(tokens.clone())),
            },
        };
        if held.generation() != half.generation || held.service != service.name {
            return Err(other);
        }
        if !service.upstream.accepts_payload(carried) {
            return Err(Rejection::Unknown("this service is unlocked in another way now; sign in again"));
        }
        Ok(brought)
    }
}

/// Whether a journey that begins fits its cookie, and will when it has grown.
pub(crate) fn check_initial_size(flow: &FlowHandle) -> Result<(), Rejection> {
    let length = length(flow);
    if length + GROWTH_RESERVE_BYTES <= MAX_COOKIE_BYTES {
        return Ok(());
    }
    Err(too_long(format!(
        "client_id, redirect_uri, state and scope are too long together for this gateway, by {} bytes",
        length + GROWTH_RESERVE_BYTES - MAX_COOKIE_BYTES
    )))
}

/// Whether a journey still fits its cookie.
pub(crate) fn check_size(flow: &FlowHandle) -> Result<(), Rejection> {
    if length(flow) <= MAX_COOKIE_BYTES {
        return Ok(());
    }
    tracing::error!(
        length = length(flow),
        most = MAX_COOKIE_BYTES,
        "a journey does not fit a cookie: what the identity provider says of the user, such as groups, is too long for store = \"none\""
    );
    Err(Rejection::Unknown(
        "too much is known of this user for this gateway, which keeps nothing; ask whoever runs it",
    ))
}

/// Whether a refresh pair can carry this grant, if it is to.
pub(crate) fn fits_refresh_pair(grant: &Handle<GrantRecord>) -> bool {
    // Sealed once more, encoded once more, beside its header.
    grant
        .client_side_record()
        .is_none_or(|record| (record.len() + 600) * 4 / 3 <= pair::MAX_PAIR_BYTES)
}

/// The grant of a pair: by its name, or with the record that the pair carries.
pub(crate) fn grant_handle(opened: &OpenedPair) -> Handle<GrantRecord> {
    let handle = Handle::new(opened.half.grant);
    if opened.half.carried == PayloadKind::Grant {
        handle.with_record(opened.upstream.expose())
    } else {
        handle
    }
}

/// Back to the client, with the journey itself as its code.
fn client_redirect(flow: FlowHandle, moved: Transitioned<StatelessCode, ReturnAddress>) -> ClientRedirect {
    let back = moved.effect;
    let code = Secret::from(format!(
        "{}.{}",
        moved.handle,
        moved.handle.client_side_record().unwrap_or_default()
    ));
    let length = code.expose().len();
    let location = if length <= MAX_CODE_BYTES {
        back.with_code(&code)
    } else {
        tracing::error!(
            length,
            most = MAX_CODE_BYTES,
            "a code is too long for an address: the upstream's code is, or what is known of the user"
        );
        back.with_error(OAuthErrorCode::ServerError, "the upstream's code is too long for this gateway")
    };
    ClientRedirect { back, location, flow }
}

fn length(flow: &FlowHandle) -> usize {
    flow.client_side_record().map_or(0, |carried| carried.len() + FORM_KEY_BYTES)
}

fn too_long(why: String) -> Rejection {
    Rejection::Authorize(RequestParamsError {
        code: OAuthErrorCode::InvalidRequest,
        why,
    })
}
