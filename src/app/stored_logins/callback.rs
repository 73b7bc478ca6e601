//! The upstream's callback, from a browser or pasted into the terminal.

use crate::app::error::Rejection;
use crate::app::flow_handle::UNKNOWN_CALLBACK;
use crate::app::stored_logins::{LoginHandle, STATE_PREFIX, StoredLogins, login_error};
use crate::base::secret::Secret;
use crate::flow::stored_login::{StoredLoginCallbackParams, StoredLoginRedirect};
use crate::oauth::form::Form;

impl StoredLogins {
    /// Whether the query of a callback has a `state` of these sign-ins.
    pub fn is_callback(query: &[u8]) -> bool {
        let form = Form::parse(query);
        form.is_ok_and(|form| {
            form.single("state")
                .ok()
                .flatten()
                .is_some_and(|state| state.starts_with(STATE_PREFIX))
        })
    }

    /// Receives the callback of a service's upstream, with a code or an error. Checks `state` and `iss`
    /// (RFC 9207). The command that started the sign-in then continues.
    ///
    /// # Errors
    /// If the callback does not belong to a sign-in that waits, or the store fails.
    pub async fn receive(&self, service: &str, query: &[u8]) -> Result<LoginHandle, Rejection> {
        let form = Form::parse(query)?;
        let state = form.single("state")?.and_then(|state| state.strip_prefix(STATE_PREFIX));
        let (handle, state) = state.and_then(|state| state.split_once('.')).ok_or(UNKNOWN_CALLBACK)?;
        let handle = LoginHandle::parse(handle).ok_or(UNKNOWN_CALLBACK)?;
        let params = StoredLoginCallbackParams {
            service,
            state,
            issuer: form.single("iss")?,
        };
        let now = self.core.clock.now();
        match (form.single("error")?, form.single("code")?) {
            (Some(error), _) => {
                let reason = refusal(error, form.single("error_description")?);
                let step = |s: StoredLoginRedirect| s.login_refused(params, &reason, now);
                self.core.store.transition(&handle, step).await.map_err(login_error)?;
            }
            (None, Some(code)) => {
                let code = Secret::from(code);
                let step = |s: StoredLoginRedirect| s.code_received(params, &code, now);
                self.core.store.transition(&handle, step).await.map_err(login_error)?;
            }
            (None, None) => return Err(Rejection::Unknown("the upstream sent neither a code nor an error")),
        }
        Ok(handle)
    }

    /// Receives a code that the user pasted without `state` and `iss`.
    ///
    /// # Errors
    /// If the sign-in no longer waits for a code, or the store fails.
    pub async fn receive_code(&self, handle: &LoginHandle, code: &Secret) -> Result<(), Rejection> {
        let now = self.core.clock.now();
        let step = |s: StoredLoginRedirect| s.code_pasted(code, now);
        self.core.store.transition(handle, step).await.map_err(login_error).map(drop)
    }
}

/// A text for the upstream's error, with its description.
fn refusal(error: &str, description: Option<&str>) -> String {
    let what = match error {
        "access_denied" => "access was denied at the upstream",
        "temporarily_unavailable" => "the upstream is temporarily unavailable",
        _ => "the upstream refused the sign-in",
    };
    match description {
        Some(description) => format!("{what} ({error}: {description})"),
        None => format!("{what} ({error})"),
    }
}
