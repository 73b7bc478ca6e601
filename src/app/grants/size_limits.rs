//! The sizes of client-side records, which travel in cookies, URLs and refresh pairs.

use crate::app::error::Rejection;
use crate::app::flow_handle::FlowHandle;
use crate::flow::grant::GrantRecord;
use crate::oauth::authorization_request::RequestParamsError;
use crate::oauth::error::OAuthErrorCode;
use crate::store::Handle;
use crate::token::pair;

/// The longest cookie of a flow, in bytes: browsers take 4,096 with its name.
const MAX_COOKIE_BYTES: usize = 3_584;
/// The key of the form in that cookie, and a dot, in bytes.
const FORM_KEY_BYTES: usize = 44;
/// By how many bytes login and consent may make that cookie longer.
const GROWTH_RESERVE_BYTES: usize = 800;
/// The longest `state` of a client, in bytes: it travels in that cookie.
const MAX_STATE_BYTES: usize = 512;
/// The longest code, in bytes: it is part of a URL. With an upstream code of up to 500 bytes it stays
/// under 1.5 KB.
const MAX_CODE_BYTES: usize = 4_096;

/// Checks that the `state` of a client (RFC 6749 §4.1.1) fits into the flow's cookie.
///
/// # Errors
/// If it is too long.
pub(super) fn check_state(state: Option<&str>) -> Result<(), Rejection> {
    match state.map(str::len) {
        Some(length) if length > MAX_STATE_BYTES => Err(too_long(format!(
            "state is {length} bytes long, and may have {MAX_STATE_BYTES} at this gateway"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Checks that a new flow fits into its cookie, with the bytes that login and consent add.
///
/// # Errors
/// If it does not. The error says by how many bytes.
pub(super) fn check_initial_size(flow: &FlowHandle) -> Result<(), Rejection> {
    let length = cookie_length(flow) + GROWTH_RESERVE_BYTES;
    if length <= MAX_COOKIE_BYTES {
        return Ok(());
    }
    Err(too_long(format!(
        "client_id, redirect_uri, state and scope are too long together for this gateway, by {} bytes",
        length - MAX_COOKIE_BYTES
    )))
}

/// Checks that a flow still fits into its cookie.
///
/// # Errors
/// If it does not.
pub(super) fn check_size(flow: &FlowHandle) -> Result<(), Rejection> {
    let length = cookie_length(flow);
    if length <= MAX_COOKIE_BYTES {
        return Ok(());
    }
    tracing::error!(
        length,
        max = MAX_COOKIE_BYTES,
        "a flow does not fit into a cookie: what the identity provider says of the user, such as groups, is too long for store = \"none\""
    );
    Err(Rejection::Unknown(
        "this user's data is too long for this gateway, which has no store; ask its operator",
    ))
}

/// Whether a code fits into the URL that brings it to the client.
pub(super) fn fits_redirect(code: &str) -> bool {
    let length = code.len();
    if length > MAX_CODE_BYTES {
        tracing::error!(
            length,
            max = MAX_CODE_BYTES,
            "a code is too long for a URL: the upstream's code is, or what is known of the user"
        );
    }
    length <= MAX_CODE_BYTES
}

/// Whether a refresh pair can hold this grant's record.
pub(super) fn fits_refresh_pair(grant: &Handle<GrantRecord>) -> bool {
    // The pair seals and encodes the record once more, beside its header.
    grant
        .client_side_record()
        .is_none_or(|record| (record.len() + 600) * 4 / 3 <= pair::MAX_PAIR_BYTES)
}

fn cookie_length(flow: &FlowHandle) -> usize {
    flow.client_side_record().map_or(0, |record| record.len() + FORM_KEY_BYTES)
}

fn too_long(message: String) -> Rejection {
    Rejection::Authorize(RequestParamsError {
        code: OAuthErrorCode::InvalidRequest,
        why: message,
    })
}
