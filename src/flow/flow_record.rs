//! The stored record of a flow: one of its states.

use serde::{Deserialize, Serialize};

use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::authorize::{ClientAuthorize, Closed, GatewayLogin, UpstreamCallback, UpstreamRedirect};
use crate::flow::code::{CodeIssued, CodeSpent};
use crate::flow::login::{IdpCallback, IdpRedirect};
use crate::flow::stateless_code::StatelessCode;
use crate::flow::user::LoginMethod;

/// The stored record of a flow.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum FlowRecord {
    /// See [`ClientAuthorize`].
    ClientAuthorize(ClientAuthorize),
    /// See [`IdpRedirect`].
    IdpRedirect(IdpRedirect),
    /// See [`IdpCallback`].
    IdpCallback(IdpCallback),
    /// See [`GatewayLogin`].
    GatewayLogin(GatewayLogin),
    /// See [`UpstreamRedirect`].
    UpstreamRedirect(UpstreamRedirect),
    /// See [`UpstreamCallback`].
    UpstreamCallback(UpstreamCallback),
    /// See [`CodeIssued`].
    CodeIssued(CodeIssued),
    /// See [`StatelessCode`].
    #[serde(rename = "CodeCarried")]
    StatelessCode(StatelessCode),
    /// See [`CodeSpent`].
    CodeSpent(CodeSpent),
    /// See [`Closed`].
    Closed(Closed),
}

impl FlowRecord {
    /// Whether no login and no consent has happened yet. Anyone can start any number of such flows.
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::ClientAuthorize(_) | Self::IdpRedirect(_) => true,
            Self::GatewayLogin(s) => s.request.way.by == LoginMethod::Nobody,
            Self::IdpCallback(_)
            | Self::UpstreamRedirect(_)
            | Self::UpstreamCallback(_)
            | Self::CodeIssued(_)
            | Self::StatelessCode(_)
            | Self::CodeSpent(_)
            | Self::Closed(_) => false,
        }
    }
}

states!(FlowRecord: ClientAuthorize, IdpRedirect, IdpCallback, GatewayLogin, UpstreamRedirect, UpstreamCallback, CodeIssued, StatelessCode, CodeSpent, Closed);

impl Record for FlowRecord {
    const KIND: &'static str = "flow";
    const CLIENT_SIDE: bool = true;

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::ClientAuthorize(s) => s.expires,
            Self::IdpRedirect(s) => s.expires,
            Self::IdpCallback(s) => s.expires,
            Self::GatewayLogin(s) => s.expires,
            Self::UpstreamRedirect(s) => s.expires,
            Self::UpstreamCallback(s) => s.expires,
            Self::CodeIssued(s) => s.expires,
            Self::StatelessCode(s) => s.expires,
            Self::CodeSpent(s) => s.expires,
            Self::Closed(s) => s.expires,
        }
    }
}
