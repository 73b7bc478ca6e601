//! The place of records: the store, or the client (`store = "none"`). Only `Grants::new` and this file distinguish them.

use crate::app::core::Core;
use crate::app::error::Rejection;
use crate::app::flow_handle::{ClientRedirect, FlowHandle, flow_error};
use crate::app::grants::size_limits;
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{CodeExchange, GatewayLogin, UpstreamCallback, UpstreamCallbackParams, UpstreamRedirect};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::code::{CodeIssued, CodeRedemption, ObtainedTokens, RedeemedCode};
use crate::flow::error::RejectReason;
use crate::flow::flow_record::FlowRecord;
use crate::flow::grant::{Active, GrantRecord};
use crate::flow::grant_data::GrantData;
use crate::flow::refresh::RefreshPayload;
use crate::flow::refresh_rules::RefreshRules;
use crate::flow::stateless_code::{PendingExchange, StatelessCode};
use crate::oauth::error::OAuthErrorCode;
use crate::service::Service;
use crate::store::{Handle, InsertError, StoreError, TransitionError, Transitioned};
use crate::token::header::{PairHeader, PayloadKind};
use crate::token::pair::OpenedPair;

/// The place of records. It is chosen once, at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// In the store.
    Stored,
    /// Sealed inside their handles, which clients and browsers hold.
    ClientSide,
}

/// The result of the upstream's callback.
pub(in crate::app) enum AcceptedCode {
    /// It is exchanged now.
    Exchange(Transitioned<UpstreamCallback, CodeExchange>),
    /// It travels in our code, and is exchanged when the client redeems that.
    Issued(ClientRedirect),
}

/// A code that was redeemed.
pub(in crate::app) struct SpentCode {
    /// The id of the grant that it creates.
    pub(in crate::app) grant: Id,
    /// The data of the grant.
    pub(in crate::app) redeemed: RedeemedCode,
    /// An upstream code that travelled in it and must be exchanged now.
    pub(in crate::app) pending: Option<PendingExchange>,
}

/// The result of inserting a new grant's record.
pub(super) enum InsertedGrant {
    /// The grant is active.
    Created(Handle<GrantRecord>),
    /// A replay of the code has ended the grant. The tokens of the response are not valid.
    AlreadyEnded(Handle<GrantRecord>),
    /// The client gets no tokens.
    Rejected(Rejection),
}

impl Persistence {
    /// Whether a user's session at an identity provider is kept. `ClientSide`, a flow's record travels in
    /// URLs, which may hold no token.
    pub(in crate::app) fn keeps_provider_sessions(self) -> bool {
        self == Self::Stored
    }

    /// The mode of a store.
    pub(in crate::app) fn new(is_stateless: bool) -> Self {
        if is_stateless { Self::ClientSide } else { Self::Stored }
    }

    /// Checks that a client's `state` fits (RFC 6749 §4.1.1).
    ///
    /// # Errors
    /// If it is too long to travel with the flow.
    pub(in crate::app) fn check_state(self, state: Option<&str>) -> Result<(), Rejection> {
        match self {
            Self::Stored => Ok(()),
            Self::ClientSide => size_limits::check_state(state),
        }
    }

    /// Checks that a new flow fits.
    ///
    /// # Errors
    /// If it is too long to travel.
    pub(in crate::app) fn check_initial_size(self, flow: &FlowHandle) -> Result<(), Rejection> {
        match self {
            Self::Stored => Ok(()),
            Self::ClientSide => size_limits::check_initial_size(flow),
        }
    }

    /// Checks that a flow still fits.
    ///
    /// # Errors
    /// If it is too long to travel.
    pub(in crate::app) fn check_size(self, flow: &FlowHandle) -> Result<(), Rejection> {
        match self {
            Self::Stored => Ok(()),
            Self::ClientSide => size_limits::check_size(flow),
        }
    }

    /// Issues the code after consent, where the browser need not visit an upstream. `tokens` is what
    /// the user gave on the consent page.
    ///
    /// # Errors
    /// If the flow is not at consent, or the store fails. A credential of a user may not travel in a
    /// URL, so `ClientSide` refuses one.
    pub(in crate::app) async fn issue_code(
        self,
        core: &Core,
        flow: &FlowHandle,
        form: Option<&str>,
        tokens: Option<ObtainedTokens>,
    ) -> Result<ClientRedirect, Rejection> {
        let now = core.clock.now();
        match self {
            Self::Stored => {
                let secret = random::token();
                let step = |s: GatewayLogin| s.granted(form, tokens.clone(), Digest::new(secret.expose()), now);
                let transition = core.store.transition(flow, step).await.map_err(flow_error)?;
                let auth_code = Secret::from(format!("{}.{}", transition.handle, secret.expose()));
                Ok(ClientRedirect::with_code(flow.clone(), transition.effect, &auth_code))
            }
            Self::ClientSide if tokens.is_some() => Err(Rejection::Unknown("this gateway keeps nothing, so it can take no key of a user")),
            Self::ClientSide => {
                let step = |s: GatewayLogin| s.granted_stateless(form, now);
                let transition = core.store.transition(flow, step).await.map_err(flow_error)?;
                Ok(stateless_redirect(flow.clone(), transition))
            }
        }
    }

    /// Takes the code of the upstream's callback.
    ///
    /// # Errors
    /// If the callback does not belong to the flow, or the store fails.
    pub(in crate::app) async fn accept_upstream_code(
        self,
        core: &Core,
        flow: &FlowHandle,
        callback: UpstreamCallbackParams<'_>,
        upstream_code: &str,
    ) -> Result<AcceptedCode, Rejection> {
        let now = core.clock.now();
        match self {
            Self::Stored => {
                let step = |s: UpstreamRedirect| s.returned(callback, now);
                let transition = core.store.transition(flow, step).await.map_err(flow_error)?;
                Ok(AcceptedCode::Exchange(transition))
            }
            Self::ClientSide => {
                let upstream_code = Secret::from(upstream_code);
                let step = |s: UpstreamRedirect| s.returned_stateless(callback, upstream_code.clone(), now);
                let transition = core.store.transition(flow, step).await.map_err(flow_error)?;
                Ok(AcceptedCode::Issued(stateless_redirect(flow.clone(), transition)))
            }
        }
    }

    /// The flow of a code. `ClientSide`, the code's secret is the record.
    pub(in crate::app) fn flow_of_code(self, flow: FlowHandle, secret: &str) -> FlowHandle {
        match self {
            Self::Stored => flow,
            Self::ClientSide => flow.with_record(secret),
        }
    }

    /// The id of the grant that a code creates. `ClientSide` it is derived from the code, so that every
    /// instance finds the same one.
    fn new_grant_id(self, secret: &str) -> Id {
        match self {
            Self::Stored => Id::random(),
            Self::ClientSide => Id(Digest::new(&format!("grant {secret}")).truncated()),
        }
    }

    /// Redeems a code.
    ///
    /// # Errors
    /// [`TransitionError::WrongState`] if the code was redeemed before.
    pub(in crate::app) async fn redeem(
        self,
        core: &Core,
        flow: &FlowHandle,
        client: &Authenticated,
        redemption: CodeRedemption<'_>,
    ) -> Result<SpentCode, TransitionError<RejectReason>> {
        let (now, grant) = (core.clock.now(), self.new_grant_id(redemption.code));
        match self {
            Self::Stored => {
                let step = |s: CodeIssued| s.redeemed(client, redemption, grant, now);
                let transition = core.store.transition(flow, step).await?;
                Ok(SpentCode {
                    grant,
                    redeemed: transition.effect,
                    pending: None,
                })
            }
            Self::ClientSide => {
                let step = |s: StatelessCode| s.redeemed(client, redemption, grant, now);
                // An expired code, or one with another redirect URI, is refused before the store is
                // asked: it ends no grant.
                if let Some(FlowRecord::StatelessCode(code)) = core.store.supplied(flow)? {
                    step(code).map_err(TransitionError::Rejected)?;
                }
                let (redeemed, pending) = core.store.transition(flow, step).await?.effect;
                Ok(SpentCode { grant, redeemed, pending })
            }
        }
    }

    /// Inserts the record of a new grant.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn insert_grant(self, core: &Core, grant: Id, data: GrantData) -> Result<InsertedGrant, StoreError> {
        let result = core.store.insert(grant, Active::new(data)).await;
        Ok(match (result, self) {
            (Ok(handle), _) if size_limits::fits_refresh_pair(&handle) => InsertedGrant::Created(handle),
            (Ok(_), _) => InsertedGrant::Rejected(Rejection::Unknown(
                "the upstream's tokens are too long for a gateway without a store; its operator must configure one",
            )),
            (Err(InsertError::AlreadyExists), Self::Stored) => InsertedGrant::AlreadyEnded(Handle::new(grant)),
            // Only this instance knows that it has ended, so no token may leave.
            (Err(InsertError::AlreadyExists), Self::ClientSide) => InsertedGrant::Rejected(Rejection::Grant(RejectReason::Replayed)),
            (Err(InsertError::Store(error)), _) => return Err(error),
        })
    }

    /// The grant of a pair: by its id, or with the record that the pair holds.
    pub(in crate::app) fn grant_handle(pair: &OpenedPair) -> Handle<GrantRecord> {
        let handle = Handle::new(pair.half.grant);
        if pair.half.carried == PayloadKind::Grant {
            handle.with_record(pair.upstream.expose())
        } else {
            handle
        }
    }

    /// The upstream token in a refresh pair that holds its grant's record.
    ///
    /// # Errors
    /// If the record does not fit the pair or the service.
    pub(super) fn refresh_payload(
        core: &Core,
        service: &Service,
        header: &PairHeader,
        grant: &Handle<GrantRecord>,
    ) -> Result<RefreshPayload, Rejection> {
        let unknown = || Rejection::Unknown("this refresh token is unknown or has ended; sign in again");
        let record = core.store.supplied(grant)?;
        let data = record.as_ref().and_then(GrantRecord::data).ok_or_else(unknown)?;
        let (kind, payload) = match data.latest() {
            None => (PayloadKind::Nothing, RefreshPayload::Nothing),
            Some(tokens) => match &tokens.refresh {
                Some(token) => (PayloadKind::Refresh, RefreshPayload::Refresh(token.clone())),
                None => (PayloadKind::Access, RefreshPayload::Access(tokens.clone())),
            },
        };
        if data.generation() != header.generation || data.service != service.name {
            return Err(unknown());
        }
        if !service.upstream.accepts_payload(kind) {
            return Err(Rejection::Unknown("this service is unlocked in another way now; sign in again"));
        }
        Ok(payload)
    }

    /// The rules of a service about refreshes.
    pub(super) fn refresh_rules(self, active: &ActiveService) -> RefreshRules {
        RefreshRules {
            is_client_side: self == Self::ClientSide,
            ..active.refresh_rules()
        }
    }

    /// For how many seconds the revocation list must hold an ended grant. `ClientSide` there is no
    /// tombstone, and refresh pairs of the grant still open.
    pub(super) fn revocation_ttl(self, config: &RuntimeConfig) -> u64 {
        match self {
            Self::Stored => config.max_access_ttl(),
            Self::ClientSide => config.max_grant_ttl(),
        }
    }
}

/// Back to the client, with the flow's record as the code.
fn stateless_redirect(flow: FlowHandle, transition: Transitioned<StatelessCode, ReturnAddress>) -> ClientRedirect {
    let record = transition.handle.client_side_record().unwrap_or_default();
    let code = Secret::from(format!("{}.{record}", transition.handle));
    if size_limits::fits_redirect(code.expose()) {
        ClientRedirect::with_code(flow, transition.effect, &code)
    } else {
        let description = "the upstream's code is too long for this gateway";
        ClientRedirect::with_error(flow, transition.effect, OAuthErrorCode::ServerError, description)
    }
}
