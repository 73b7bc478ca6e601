//! The report of the doctor, for people and for scripts.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::agent::clients;
use crate::agent::doctor::rule::{Rule, Severity};

/// The number of clients up to which their limits are shown.
const FEW_CLIENTS: usize = 3;

/// A broken rule at one URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The broken rule.
    pub rule: &'static Rule,
    /// The URL, without its query.
    pub at: String,
    /// The response or value that breaks the rule.
    pub detail: String,
    /// The affected clients; empty: all clients.
    pub clients: Vec<&'static str>,
}

/// The result of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client connects without a sign-in.
    Open,
    /// The user sees the sign-in page.
    SignIn,
    /// There is no problem up to registration, which no flag permits.
    Unregistered,
    /// The client cannot register here: the user must enter a client id.
    NeedsClientId,
    /// The server needs a key and offers no OAuth: the user must enter the key as a header.
    NeedsKey,
    /// The client refuses to continue after this step, because of this rule.
    Refused(Step, &'static Rule),
}

/// A step of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first request to the MCP endpoint.
    Opening,
    /// The metadata of the resource.
    ResourceMetadata,
    /// The metadata of the authorization server.
    ServerMetadata,
    /// The registration.
    Registration,
    /// The authorization request, up to the first page.
    Authorize,
}

impl Step {
    /// The words for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "first request",
            Self::ResourceMetadata => "resource metadata",
            Self::ServerMetadata => "authorization server metadata",
            Self::Registration => "registration",
            Self::Authorize => "authorization request",
        }
    }
}

impl Outcome {
    /// The stable name for scripts.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SignIn => "sign-in",
            Self::Unregistered => "unregistered",
            Self::NeedsClientId => "needs-client-id",
            Self::NeedsKey => "needs-key",
            Self::Refused(..) => "refused",
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Open => "connects without a sign-in".to_owned(),
            Self::SignIn => "reaches the sign-in page".to_owned(),
            Self::Unregistered => "no problem up to registration; --register continues".to_owned(),
            Self::NeedsClientId => "cannot register here: enter a client id in the client".to_owned(),
            Self::NeedsKey => "needs a key and offers no sign-in: enter the key as a header".to_owned(),
            Self::Refused(step, rule) => format!("stops at the {}: {}", step.as_str(), rule.name),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(..))
    }
}

/// A client and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientResult {
    /// The client's name.
    pub client: &'static str,
    /// The result.
    pub outcome: Outcome,
}

/// The result for one MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The MCP server's URL, without its query.
    pub url: String,
    /// One line for each client.
    pub clients: Vec<ClientResult>,
    /// The findings without duplicates: errors first, then in the order of a sign-in.
    pub findings: Vec<Finding>,
    /// The number of requests that were sent.
    pub requests: usize,
    /// The clients that were registered at the server.
    pub registered: Vec<String>,
    /// Whether the server answered at all.
    pub is_reached: bool,
    /// Whether the server is at a loopback or private address, which vendors' networks cannot reach.
    pub is_local: bool,
}

impl Report {
    /// The exit code. 0: no problem; 1: a person must act; 2: the server was not reached.
    pub fn exit_code(&self) -> u8 {
        let has_error = self.findings.iter().any(|finding| finding.rule.severity == Severity::Error);
        match (
            self.is_reached,
            has_error || self.clients.iter().any(|client| client.outcome.is_refused()),
        ) {
            (false, _) => 2,
            (true, true) => 1,
            (true, false) => 0,
        }
    }

    fn is_out_of_reach(&self, client: &str) -> bool {
        self.is_local && clients::find(client).is_some_and(|client| client.is_remote)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let clients = self.clients.iter().map(|ClientResult { client, outcome }| {
            let (step, rule) = match outcome {
                Outcome::Refused(step, rule) => (Some(step.as_str()), Some(rule.name)),
                Outcome::Open | Outcome::SignIn | Outcome::Unregistered | Outcome::NeedsClientId | Outcome::NeedsKey => (None, None),
            };
            let (limits, in_reach) = (limits(client), !self.is_out_of_reach(client));
            json!({ "client": client, "outcome": outcome.as_str(), "step": step, "finding": rule, "limits": limits, "in_reach": in_reach })
        });
        let findings = self.findings.iter().map(|finding| {
            let Rule {
                name,
                clause,
                meaning,
                fix,
                ..
            } = finding.rule;
            json!({
                "name": name, "severity": finding.rule.severity.as_str(), "fault": finding.rule.fault.as_str(), "clause": clause,
                "meaning": meaning, "at": finding.at, "detail": finding.detail, "fix": fix, "clients": finding.clients,
            })
        });
        json!({
            "url": self.url,
            "exit": self.exit_code(),
            "clients": clients.collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
            "requests": self.requests,
            "registered": self.registered,
        })
    }

    /// The report as text: one line for each client, then each finding.
    pub fn to_text(&self) -> String {
        let mut out = format!("{}\n\n", self.url);
        for ClientResult { client, outcome } in &self.clients {
            let mark = if outcome.is_refused() { "NO" } else { "ok" };
            let reach = if self.is_out_of_reach(client) {
                "; but its vendor's network cannot reach this address"
            } else {
                ""
            };
            let _ = writeln!(out, "  {mark:<3} {client:<16} {}{reach}", outcome.sentence());
            if self.clients.len() <= FEW_CLIENTS && !limits(client).is_empty() {
                let _ = writeln!(out, "      {:<16} note: {}", "", limits(client));
            }
        }
        for finding in &self.findings {
            out.push_str(&finding_text(finding, self.clients.len()));
        }
        let registered = match self.registered.as_slice() {
            [] => "nothing registered".to_owned(),
            names => format!("registered there: {}", names.join(", ")),
        };
        let _ = writeln!(out, "\n{} requests sent, no credential among them; {registered}", self.requests);
        out
    }
}

/// The limits of a client that no server can change.
fn limits(client: &str) -> &'static str {
    clients::find(client).map_or("", |client| client.limits)
}

fn finding_text(finding: &Finding, clients: usize) -> String {
    let Finding { rule, at, detail, .. } = finding;
    let mut out = format!(
        "\n{} {}  (fault: {}; {})\n  {}\n  at   {at}\n",
        rule.severity.as_str(),
        rule.name,
        rule.fault.as_str(),
        rule.clause,
        rule.meaning,
    );
    if !detail.is_empty() {
        let _ = writeln!(out, "  seen {detail}");
    }
    if !finding.clients.is_empty() && finding.clients.len() < clients {
        let _ = writeln!(out, "  for  {}", finding.clients.join(", "));
    }
    let _ = writeln!(out, "  fix  {}", rule.fix);
    out
}
