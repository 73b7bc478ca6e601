//! The parameters of a callback (RFC 6749 §4.1.2, RFC 9207), from an upstream or an identity provider.

use crate::app::error::Rejection;
use crate::app::flow_handle::{FlowHandle, UNKNOWN_CALLBACK};
use crate::oauth::form::Form;

/// The longest description of another server that is shown, in characters.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// The result in the authorization response.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallbackResult<'a> {
    /// A code.
    Code(&'a str),
    /// An error.
    Error(ForeignError<'a>),
}

/// An error of another server. Its texts are untrusted: any page can send a browser here.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForeignError<'a> {
    /// The error code.
    pub(super) code: &'a str,
    /// `error_description`, if it was sent.
    pub(super) description: Option<&'a str>,
}

impl ForeignError<'_> {
    /// The description, at most 200 characters long.
    pub(super) fn description(&self) -> Option<String> {
        self.description.map(|text| text.chars().take(MAX_DESCRIPTION_CHARS).collect())
    }

    /// A message for the client that ends with the other server's description, marked as its own.
    pub(super) fn message(&self, what: &str, speaker: &str) -> String {
        match self.description() {
            Some(text) => format!("{what}; {speaker} says: {text}"),
            None => what.to_owned(),
        }
    }
}

/// The parameters of a callback.
#[derive(Debug)]
pub(super) struct CallbackParams<'a> {
    /// The flow, as the browser holds it.
    pub(super) flow: FlowHandle,
    /// The secret half of `state`.
    pub(super) state: &'a str,
    /// The cookie that was set when the browser left.
    pub(super) browser: Option<String>,
    /// `iss`, if it was sent.
    pub(super) issuer: Option<&'a str>,
    /// `code` or `error`; `None` if neither was sent.
    pub(super) result: Option<CallbackResult<'a>>,
}

impl<'a> CallbackParams<'a> {
    /// Reads a callback. `cookies` finds the flow's handle and cookie in the browser's request.
    ///
    /// # Errors
    /// If a parameter is repeated, or `state` is not one of this gateway.
    pub(super) fn parse(form: &'a Form, cookies: impl Fn(FlowHandle) -> (FlowHandle, Option<String>)) -> Result<Self, Rejection> {
        let state = form.single("state")?.ok_or(UNKNOWN_CALLBACK)?;
        let (flow, state) = state.split_once('.').ok_or(UNKNOWN_CALLBACK)?;
        let (flow, browser) = cookies(FlowHandle::parse(flow).ok_or(UNKNOWN_CALLBACK)?);
        let issuer = form.single("iss")?;
        let result = match (form.single("error")?, form.single("code")?) {
            (Some(code), _) => Some(CallbackResult::Error(ForeignError {
                code,
                description: form.single("error_description").ok().flatten(),
            })),
            (None, Some(code)) => Some(CallbackResult::Code(code)),
            (None, None) => None,
        };
        Ok(Self {
            flow,
            state,
            browser,
            issuer,
            result,
        })
    }
}
