//! What a checked request is forwarded with.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;

use crate::app::approvals::ListingKey;
use crate::app::proxy::caller::{AdapterFacts, Caller};
use crate::app::runtime_config::ActiveService;
use crate::flow::tool_call::Decider;
use crate::net::body::EarlyEnd;
use crate::net::http_client::HttpClient;
use crate::service::tool_policy::ToolPolicy;
use crate::service::{Login, UpstreamHeaders};
use crate::token::header::TokenKind;

/// What a checked request is forwarded with.
pub(super) struct CallContext {
    /// The service.
    pub(super) active: Arc<ActiveService>,
    /// The caller.
    pub(super) caller: Caller,
    /// The upstream credential, unless it is stored.
    pub(super) credential: UpstreamHeaders,
    /// The head of the request.
    pub(super) head: Parts,
    /// The caller's address, for limits only.
    pub(super) source: IpAddr,
    /// What an adapter knows about the request.
    pub(super) facts: AdapterFacts,
}

/// A caller, as far as an approval is bound to it.
pub(super) struct ApprovalCaller {
    /// What an approval is bound to.
    pub(super) id: String,
    /// The caller, as pages show it.
    pub(super) name: String,
    /// Who decides.
    pub(super) decider: Decider,
}

impl CallContext {
    pub(super) fn new(active: &Arc<ActiveService>, caller: Caller, credential: UpstreamHeaders, head: Parts, source: IpAddr) -> Self {
        Self {
            active: Arc::clone(active),
            caller,
            credential,
            head,
            source,
            facts: AdapterFacts::default(),
        }
    }

    /// The caller, as far as an approval is bound to it. `None`: there is nobody to ask.
    pub(super) fn approval_caller(&self) -> Option<ApprovalCaller> {
        match &self.caller {
            Caller::TokenHolder(header) if header.kind == TokenKind::Key => Some(ApprovalCaller {
                id: format!("key {}", header.grant),
                name: format!("API key {}", header.subject),
                decider: Decider::Approvers,
            }),
            Caller::TokenHolder(header) => {
                let client = u128::from_be_bytes(header.client);
                let has_user = self.active.service.login != Login::None && !header.subject.is_empty();
                Some(ApprovalCaller {
                    // Without a sign-in, all users have the same subject.
                    id: if has_user {
                        format!("user {client:032x} {}", header.subject)
                    } else {
                        format!("grant {}", header.grant)
                    },
                    name: if has_user {
                        header.subject.clone()
                    } else {
                        "a client without a sign-in here".to_owned()
                    },
                    decider: if has_user {
                        Decider::User(header.subject.clone())
                    } else {
                        Decider::Approvers
                    },
                })
            }
            Caller::LocalKey(key) => Some(ApprovalCaller {
                id: format!("local-key {}", key.0),
                name: "a program of this machine (local key)".to_owned(),
                decider: Decider::Approvers,
            }),
            Caller::Adapter(adapter) => Some(ApprovalCaller {
                id: format!("adapter {}", adapter.key.id()),
                name: format!("an adapter ({})", adapter.subject),
                decider: Decider::Approvers,
            }),
            Caller::Anonymous => None,
            #[cfg(feature = "raw")]
            Caller::RawBearer => None,
        }
    }

    /// The holder of the credential with which tools are listed.
    pub(super) fn listing_key(&self) -> ListingKey {
        let caller = match &self.caller {
            Caller::TokenHolder(header) => format!("grant {}", header.grant),
            Caller::LocalKey(_) => "local-key".to_owned(),
            Caller::Adapter(adapter) => format!("adapter {}", adapter.key.id()),
            Caller::Anonymous => String::new(),
            #[cfg(feature = "raw")]
            Caller::RawBearer => String::new(),
        };
        ListingKey {
            service: self.active.service.name.clone(),
            caller,
        }
    }
}

/// A checked request on its way: what it is forwarded with, and the stream that it opens in any case.
pub(super) struct Checked<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) context: Arc<CallContext>,
    pub(super) policy: &'a ToolPolicy,
    pub(super) opened: Option<Box<EarlyEnd>>,
}
