//! The state machines. They are pure: no I/O, no clock, no random numbers.
//!
//! A test compares [`TRANSITIONS`] with the code, and `mcp-oauth-gateway flow` prints it.

pub mod access_key;
pub mod api_key;
pub mod approval;
pub mod authorize;
pub mod branches;
pub mod client;
pub mod code;
pub mod consent;
pub mod credential;
pub mod deciders;
pub mod error;
mod expected_issuer;
pub mod flow_record;
pub mod grant;
pub mod grant_data;
pub mod latest_approval;
pub mod login;
pub mod pins;
pub mod refresh;
pub mod refresh_rules;
pub mod resource_server;
pub mod stateless_code;
pub mod stored_credential;
pub mod stored_login;
pub mod stored_token;
pub mod superseded;
pub mod tool_call;
pub mod user;
pub mod user_check;

/// One transition of a state machine.
pub struct Transition {
    /// The state that the transition consumes; `[*]` at the start.
    pub from: &'static str,
    /// The name of the method in the code.
    pub by: &'static str,
    /// The state that the transition returns.
    pub to: &'static str,
}

const fn transition(source: &'static str, event: &'static str, target: &'static str) -> Transition {
    Transition {
        from: source,
        by: event,
        to: target,
    }
}

/// All transitions of all state machines.
pub const TRANSITIONS: [Transition; 82] = [
    transition("[*]", "new", "ClientAuthorize"),
    transition("ClientAuthorize", "signed_in", "GatewayLogin"),
    transition("ClientAuthorize", "login_skipped", "GatewayLogin"),
    transition("ClientAuthorize", "denied", "Closed"),
    transition("ClientAuthorize", "sent_to_idp", "IdpRedirect"),
    transition("IdpRedirect", "returned", "IdpCallback"),
    transition("IdpRedirect", "refused", "Closed"),
    transition("IdpRedirect", "repeated", "IdpRedirect"),
    transition("IdpCallback", "identified", "GatewayLogin"),
    transition("IdpCallback", "failed", "Closed"),
    transition("GatewayLogin", "consented", "UpstreamRedirect"),
    transition("GatewayLogin", "granted", "CodeIssued"),
    transition("GatewayLogin", "granted_stateless", "StatelessCode"),
    transition("GatewayLogin", "denied", "Closed"),
    transition("UpstreamRedirect", "returned", "UpstreamCallback"),
    transition("UpstreamRedirect", "returned_stateless", "StatelessCode"),
    transition("UpstreamRedirect", "refused", "Closed"),
    transition("UpstreamCallback", "exchanged", "CodeIssued"),
    transition("UpstreamCallback", "failed", "Closed"),
    transition("CodeIssued", "redeemed", "CodeSpent"),
    transition("StatelessCode", "redeemed", "CodeSpent"),
    transition("CodeSpent", "replayed", "Ended"),
    transition("[*]", "new", "Active"),
    transition("Active", "presented", "Refreshing"),
    transition("Active", "presented", "Active"),
    transition("Active", "presented", "Ended"),
    transition("Active", "renewal_started", "Refreshing"),
    transition("Active", "user_check_started", "Refreshing"),
    transition("Active", "ended", "Ended"),
    transition("Refreshing", "presented", "Refreshing"),
    transition("Refreshing", "presented", "Active"),
    transition("Refreshing", "presented", "Ended"),
    transition("Refreshing", "renewal_started", "Refreshing"),
    transition("Refreshing", "user_check_started", "Refreshing"),
    transition("Refreshing", "session_rotated", "Refreshing"),
    transition("Refreshing", "user_confirmed", "Active"),
    transition("Refreshing", "answered", "Active"),
    transition("Refreshing", "released", "Active"),
    transition("Refreshing", "refused", "Ended"),
    transition("Refreshing", "ended", "Ended"),
    transition("[*]", "new", "Usable"),
    transition("Usable", "revoked", "Revoked"),
    transition("[*]", "new", "SignedIn"),
    transition("SignedIn", "credential_renewal_started", "Renewing"),
    transition("SignedIn", "replaced", "SignedIn"),
    transition("Renewing", "credential_renewal_started", "Renewing"),
    transition("Renewing", "renewed", "SignedIn"),
    transition("Renewing", "renewal_failed", "SignedIn"),
    transition("Renewing", "renewal_refused", "NeedsLogin"),
    transition("Renewing", "replaced", "SignedIn"),
    transition("NeedsLogin", "replaced", "SignedIn"),
    transition("[*]", "new", "Proposed"),
    transition("Proposed", "approved", "Approved"),
    transition("Proposed", "denied", "Denied"),
    transition("Proposed", "expired", "Expired"),
    transition("Approved", "started", "Executing"),
    transition("Approved", "expired", "Expired"),
    transition("Executing", "extended", "Executing"),
    transition("Executing", "finished", "Executed"),
    transition("Executing", "input_requested", "AwaitingInput"),
    transition("Executing", "lost", "Executed"),
    transition("AwaitingInput", "input_given", "Executing"),
    transition("[*]", "new", "Latest"),
    transition("Latest", "replaced", "Latest"),
    transition("[*]", "new", "Deciders"),
    transition("[*]", "new", "Pinned"),
    transition("Pinned", "listed", "Pinned"),
    transition("Pinned", "approved", "Pinned"),
    transition("Pinned", "all_approved", "Pinned"),
    transition("[*]", "new", "ActiveAccessKey"),
    transition("ActiveAccessKey", "used", "ActiveAccessKey"),
    transition("ActiveAccessKey", "revoked", "RevokedAccessKey"),
    transition("[*]", "new", "StoredLoginRedirect"),
    transition("StoredLoginRedirect", "code_received", "StoredLoginCallback"),
    transition("StoredLoginRedirect", "code_pasted", "StoredLoginCallback"),
    transition("StoredLoginRedirect", "login_refused", "StoredLoginFailed"),
    transition("StoredLoginCallback", "credential_stored", "StoredLoginDone"),
    transition("StoredLoginCallback", "login_failed", "StoredLoginFailed"),
    transition("[*]", "new", "RegisteredServer"),
    transition("RegisteredServer", "edited", "RegisteredServer"),
    transition("RegisteredServer", "proof_checked", "RegisteredServer"),
    transition("RegisteredServer", "removed", "RemovedServer"),
];

/// The state machines as a Mermaid state diagram.
pub fn mermaid() -> String {
    use std::fmt::Write as _;
    let mut diagram = String::from("stateDiagram-v2\n");
    for Transition {
        from: source,
        by: event,
        to: target,
    } in TRANSITIONS
    {
        let _ = writeln!(diagram, "    {source} --> {target}: {event}");
    }
    diagram
}
