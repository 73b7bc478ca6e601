//! The audit events of the use cases, and their fields.

use crate::base::ids::Id;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::grant_data::GrantData;
use crate::flow::tool_call::{CallBinding, CallOutcome, ProposedCall};
use crate::flow::user::User;
use crate::oauth::redirect_uri::RedirectUri;
use crate::oauth::registration::ClientRegistration;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};

/// The reason why a grant or API key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum EndReason {
    /// Its client revoked it (RFC 7009).
    Client,
    /// Its code was redeemed twice.
    CodeReplayed,
    /// One of its refresh tokens was reused.
    Reuse,
    /// The user may no longer use the service, or the password was changed.
    UserPolicy,
    /// The upstream's refusal of its token was final.
    Upstream,
    /// A command, or another instance.
    OtherProcess,
}

impl EndReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::CodeReplayed => "code_replayed",
            Self::Reuse => "reuse",
            Self::UserPolicy => "user_policy",
            Self::Upstream => "upstream",
            Self::OtherProcess => "other_process",
        }
    }
}

/// A client registered itself.
pub(in crate::app) fn client_registered(client_id: &str, registration: &ClientRegistration) -> AuditEvent {
    AuditEvent::new(AuditEventKind::ClientRegistered, AuditOutcome::Success)
        .client(client_id)
        .client_name(registration.name.as_deref())
        .with("redirect_uri", registration.redirect_uris.first().map(RedirectUri::as_str))
        .with("redirect_uris", registration.redirect_uris.len() as u64)
}

/// A tool call needs a decision. The log has the digest of its arguments, not the arguments.
pub(in crate::app) fn call_proposed(approval: Id, call: &ProposedCall) -> AuditEvent {
    call_event(AuditEventKind::CallProposed, AuditOutcome::Success, approval, &call.binding)
        .with("reason", call.reason.as_str())
        .with("expires", call.expires.0)
}

/// A call refers to an approval that is not for it. `approval` is absent if the reference does not open.
pub(in crate::app) fn call_refused(approval: Option<Id>, binding: &CallBinding, reason: &str) -> AuditEvent {
    let digest = binding.digest().to_hex();
    let event = AuditEvent::new(AuditEventKind::CallRefused, AuditOutcome::Denied)
        .with("caller", binding.caller.as_str())
        .with("service", binding.service.as_str())
        .with("tool", binding.tool.as_str())
        .with("digest", digest.as_str())
        .with("reason", reason);
    match approval {
        Some(approval) => event.with("approval", approval),
        None => event,
    }
}

/// A person decided about a tool call.
pub(in crate::app) fn call_decided(approval: Id, call: &ProposedCall, by: &str, is_approved: bool) -> AuditEvent {
    let outcome = if is_approved { AuditOutcome::Success } else { AuditOutcome::Denied };
    call_event(AuditEventKind::CallDecided, outcome, approval, &call.binding)
        .user(by)
        .with("decision", if is_approved { "approved" } else { "denied" })
}

/// A command or another instance did this.
pub(in crate::app) fn elsewhere(event: AuditEvent) -> AuditEvent {
    event.with("by", EndReason::OtherProcess.as_str())
}

/// A person approved the definitions of these tools.
pub(in crate::app) fn pins_approved(service: &str, user: &str, tools: &[&str]) -> AuditEvent {
    AuditEvent::new(AuditEventKind::PinsChanged, AuditOutcome::Success)
        .user(user)
        .with("service", service)
        .with("change", "approved")
        .with("count", tools.len() as u64)
        .with("tools", tools.join(" ").as_str())
}

/// A person reset the pins of a service. The record does not say who.
pub(in crate::app) fn pins_reset(service: &str) -> AuditEvent {
    AuditEvent::new(AuditEventKind::PinsChanged, AuditOutcome::Success)
        .with("service", service)
        .with("change", "reset")
}

/// An approved tool call is about to be sent.
pub(in crate::app) fn call_executed(approval: Id, binding: &CallBinding) -> AuditEvent {
    call_event(AuditEventKind::CallExecuted, AuditOutcome::Success, approval, binding)
}

/// An approved tool call returned.
pub(in crate::app) fn call_returned(approval: Id, outcome: &CallOutcome) -> AuditEvent {
    let (result, outcome) = match outcome {
        CallOutcome::Result(_) => ("result", AuditOutcome::Success),
        CallOutcome::NotKept => ("result_not_kept", AuditOutcome::Success),
        CallOutcome::Error(_) => ("error", AuditOutcome::Failure),
        CallOutcome::Unknown => ("unknown", AuditOutcome::Failure),
        CallOutcome::NotSent(_) => ("not_sent", AuditOutcome::Failure),
    };
    AuditEvent::new(AuditEventKind::CallReturned, outcome)
        .with("approval", approval)
        .with("result", result)
}

fn call_event(kind: AuditEventKind, outcome: AuditOutcome, approval: Id, binding: &CallBinding) -> AuditEvent {
    let digest = binding.digest().to_hex();
    AuditEvent::new(kind, outcome)
        .with("approval", approval)
        .with("caller", binding.caller.as_str())
        .with("service", binding.service.as_str())
        .with("tool", binding.tool.as_str())
        .with("digest", digest.as_str())
}

/// A flow began.
pub(in crate::app) fn flow_started(flow: Id, request: &AuthorizationRequest) -> AuditEvent {
    let redirect_host = request.return_address.uri().display_host();
    request_event(AuditEventKind::FlowStarted, AuditOutcome::Success, flow, request).with("redirect_host", redirect_host.as_str())
}

/// A user signed in by this method: `password`, `session`, or the name of a provider.
pub(in crate::app) fn signed_in(flow: Id, user: &User, method: &str) -> AuditEvent {
    AuditEvent::new(AuditEventKind::SignIn, AuditOutcome::Success)
        .user(&user.subject)
        .with("flow", flow)
        .with("method", method)
}

/// A sign-in was refused. `user` is the name of a known user: an unknown name may be a mistyped password.
pub(in crate::app) fn sign_in_refused(flow: Id, user: Option<&str>, reason: &'static str) -> AuditEvent {
    AuditEvent::new(AuditEventKind::SignIn, AuditOutcome::Denied)
        .user(user.unwrap_or_default())
        .with("flow", flow)
        .with("reason", reason)
}

/// A user allowed access, now or earlier.
pub(in crate::app) fn consent_given(flow: Id, request: &AuthorizationRequest, user: &User, is_remembered: bool) -> AuditEvent {
    request_event(AuditEventKind::Consent, AuditOutcome::Success, flow, request)
        .user(&user.subject)
        .with("scope", request.scopes.to_string().as_str())
        .with("remembered", is_remembered)
}

/// A user denied access.
pub(in crate::app) fn consent_denied(flow: Id) -> AuditEvent {
    AuditEvent::new(AuditEventKind::Consent, AuditOutcome::Denied).with("flow", flow)
}

fn request_event(kind: AuditEventKind, outcome: AuditOutcome, flow: Id, request: &AuthorizationRequest) -> AuditEvent {
    AuditEvent::new(kind, outcome)
        .client(&request.client_id)
        .client_name(request.client_name.as_deref())
        .with("flow", flow)
        .with("service", request.service.as_str())
}

/// An event of a grant.
pub(in crate::app) fn grant_event(kind: AuditEventKind, outcome: AuditOutcome, grant: Id, data: &GrantData) -> AuditEvent {
    AuditEvent::new(kind, outcome)
        .user(&data.who.subject)
        .client(&data.client_id)
        .with("grant", grant)
        .with("service", data.service.as_str())
        .with("generation", data.generation())
}

/// A client got the first tokens of a grant.
pub(in crate::app) fn tokens_issued(grant: Id, data: &GrantData) -> AuditEvent {
    grant_event(AuditEventKind::TokenIssued, AuditOutcome::Success, grant, data)
        .with("scope", data.scopes.to_string().as_str())
        .with("upstream_issuer", data.issuer.as_deref())
}

/// An upstream named another issuer than before.
pub(in crate::app) fn issuer_changed(service: &str, old_issuer: &str, new_issuer: &str) -> AuditEvent {
    AuditEvent::new(AuditEventKind::IssuerChanged, AuditOutcome::Success)
        .with("service", service)
        .with("upstream_issuer", new_issuer)
        .with("previous_issuer", old_issuer)
}

/// A grant ended.
pub(in crate::app) fn grant_ended(grant: Id, data: &GrantData, reason: EndReason) -> AuditEvent {
    grant_event(AuditEventKind::TokenRevoked, AuditOutcome::Success, grant, data).with("by", reason.as_str())
}

/// Another process ended a grant or API key, of which only the id is known.
pub(in crate::app) fn other_process_ended(id: Id) -> AuditEvent {
    AuditEvent::new(AuditEventKind::TokenRevoked, AuditOutcome::Success)
        .with("grant", id)
        .with("by", EndReason::OtherProcess.as_str())
}
