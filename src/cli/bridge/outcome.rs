//! Reports the result of a sign-in, and whether the running gateway uses it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::runtime_config::ActiveService;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::data_dir;
use crate::cli::grants::print_json;
use crate::cli::reload_request::{self, ReloadAnswer};
use crate::cli::table::printable;
use crate::cli::terminal::print_stdout;

/// The response of the gateway to a changed configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// No gateway runs.
    Stopped,
    /// The gateway uses the new configuration.
    Reloaded,
    /// The gateway still uses the old configuration, for this reason.
    Refused(String),
    /// The gateway runs, and did not answer.
    Silent,
}

impl ReloadOutcome {
    /// Asks the running gateway of this data directory to use the new configuration.
    ///
    /// # Errors
    /// If the request cannot be written.
    pub fn after_change(dir: &Path) -> Result<Self, String> {
        if !data_dir::is_locked(dir) {
            return Ok(Self::Stopped);
        }
        let answer = reload_request::request(dir)?;
        Ok(match answer {
            ReloadAnswer::Done => Self::Reloaded,
            ReloadAnswer::Refused(reason) => Self::Refused(reason),
            ReloadAnswer::Silent => Self::Silent,
        })
    }

    /// The members for scripts.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Stopped => json!({ "gateway": "stopped" }),
            Self::Reloaded => json!({ "gateway": "reloaded" }),
            Self::Refused(reason) => json!({ "gateway": "refused", "gateway_reason": reason }),
            Self::Silent => json!({ "gateway": "silent" }),
        }
    }

    /// The text for a person.
    pub fn text(&self) -> String {
        match self {
            Self::Stopped => "the gateway does not run; start it: mcp-oauth-gateway start".to_owned(),
            Self::Reloaded => "the running gateway has read the configuration again".to_owned(),
            Self::Refused(reason) => format!("the running gateway keeps its old configuration: {}", printable(reason)),
            Self::Silent => {
                "the running gateway did not answer; it may use another configuration file, or none: restart it with this one".to_owned()
            }
        }
    }
}

/// Merges the members of two JSON objects. A member of the second replaces one of the same name.
pub fn merge_objects(mut one: Value, other: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (one.as_object_mut(), other) {
        members.extend(more);
    }
    one
}

/// Reports a service with a new credential.
///
/// # Errors
/// If the store cannot be read, the request to the gateway cannot be written, or the output fails.
pub async fn report(local: &LocalGateway, active: &Arc<ActiveService>, as_json: bool) -> Result<(), Failure> {
    let stored = local.app.stored.report(active).await;
    let stored = stored.map_err(|error| Failure::Broken(error.to_string()))?;
    let gateway = ReloadOutcome::after_change(&local.validated.start.data_dir).map_err(Failure::Broken)?;
    let (name, address) = (&active.service.name, local.app.urls().service_url(&active.service));
    if as_json {
        let value = json!({
            "service": name, "address": address, "issuer": stored.issuer, "scopes": stored.scopes,
            "api_key": stored.is_api_key, "refreshable": stored.is_refreshable, "expires": stored.ends,
        });
        return Ok(print_json(&merge_objects(value, gateway.to_json()))?);
    }
    let credential = match (&stored.issuer, stored.scopes.as_deref().unwrap_or_default()) {
        (Some(issuer), "") => format!("signed in at {}", printable(issuer)),
        (Some(issuer), scopes) => format!("signed in at {} for {}", printable(issuer), printable(scopes)),
        (None, _) => "the API key is stored".to_owned(),
    };
    let renewal = if stored.is_api_key || stored.is_refreshable || stored.ends.is_none() {
        ""
    } else {
        "note       the upstream gave no refresh token: sign in again when the access token ends\n"
    };
    let out = format!(
        "service    {name}: {credential}\naddress    {address}\n{renewal}gateway    {}\n",
        gateway.text()
    );
    Ok(print_stdout(&out)?)
}
