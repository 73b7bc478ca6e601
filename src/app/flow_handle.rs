//! The handle of an authorization flow, and the redirect at the end of a flow.

use crate::app::error::Rejection;
use crate::base::secret::Secret;
use crate::flow::client::ReturnAddress;
use crate::flow::error::RejectReason;
use crate::flow::flow_record::FlowRecord;
use crate::oauth::error::OAuthErrorCode;
use crate::store::{Handle, TransitionError};

/// The handle of an authorization flow.
pub type FlowHandle = Handle<FlowRecord>;

/// The refusal if no flow has the handle, or the flow is in another state than the request expects.
pub const FLOW_NOT_FOUND: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

/// The refusal of a callback without a `state` of this gateway.
pub const UNKNOWN_CALLBACK: Rejection = Rejection::Unknown("this answer does not belong to a sign-in of this gateway");

/// The end of a flow: the browser goes back to the client, with a code or an error.
#[derive(Clone, Debug)]
pub struct ClientRedirect {
    /// The client's address.
    pub back: ReturnAddress,
    /// The value of the `Location` header.
    pub location: String,
    /// The flow, whose cookies can be removed.
    pub flow: FlowHandle,
}

impl ClientRedirect {
    /// The redirect to the client with a code (RFC 6749 §4.1.2).
    pub fn with_code(flow: FlowHandle, return_address: ReturnAddress, code: &Secret) -> Self {
        Self {
            location: return_address.with_code(code),
            back: return_address,
            flow,
        }
    }

    /// The redirect to the client with an error (RFC 6749 §4.1.2.1).
    pub fn with_error(flow: FlowHandle, return_address: ReturnAddress, code: OAuthErrorCode, description: &str) -> Self {
        Self {
            location: return_address.with_error(code, description),
            back: return_address,
            flow,
        }
    }
}

/// The refusal for a failed transition of a flow.
pub fn flow_error(error: TransitionError<RejectReason>) -> Rejection {
    match error {
        TransitionError::NotFound | TransitionError::WrongState => FLOW_NOT_FOUND,
        TransitionError::Rejected(reason) => Rejection::Flow(reason),
        TransitionError::Store(error) => error.into(),
    }
}
