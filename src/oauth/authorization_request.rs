//! The authorization request (OAuth 2.1 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1).

use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::{Form, FormError};
use crate::oauth::pkce::{CodeChallenge, CodeChallengeError};
use crate::oauth::redirect_uri::{RedirectUri, RedirectUriError};
use crate::oauth::scope::Scopes;

/// Longest accepted client `state`, in bytes.
pub const MAX_STATE_BYTES: usize = 2048;

/// The parameters that must be valid before the gateway may redirect to the client.
#[derive(Debug)]
pub struct RedirectParams {
    /// Id of the client.
    pub client_id: String,
    /// Redirect URI. A client that registered exactly one may omit it.
    pub redirect_uri: Option<RedirectUri>,
}

/// The reason why the redirect URI is not known. The gateway then shows a page and does not redirect.
#[derive(Debug, PartialEq, Eq)]
pub enum RedirectParamsError {
    /// A parameter is repeated.
    Form(FormError),
    /// `client_id` is missing.
    ClientIdMissing,
    /// `redirect_uri` is invalid.
    Redirect(RedirectUriError),
}

/// The other parameters of the request.
#[derive(Debug)]
pub struct RequestParams {
    /// PKCE challenge, S256 only. `None`: see [`PkceRule::Optional`].
    pub challenge: Option<CodeChallenge>,
    /// Requested scopes. An empty set means the default.
    pub scopes: Scopes,
    /// Whether `prompt` contains `consent`.
    pub prompt_consent: bool,
    /// The maximum age of the user's sign-in, in seconds (OpenID Connect Core, section 3.1.2.1). With 0, which
    /// `prompt=login` also means, the user signs in now. `None`: the lifetime of a session.
    pub max_age: Option<u64>,
    /// All `resource` values.
    pub resources: Vec<String>,
}

/// The reason why another parameter is refused. The redirect URI decides between a redirect and a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestParamsError {
    /// The OAuth error code.
    pub code: OAuthErrorCode,
    /// The problem.
    pub why: String,
}

/// Whether a client must send a PKCE challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PkceRule {
    /// It must (OAuth 2.1 §7.5.1, MCP).
    Required,
    /// The operator lets this client, which has a secret, do without.
    Optional,
}

impl RedirectParams {
    /// Parses client id and redirect URI. Fails if one is repeated or invalid, or the id missing.
    pub fn parse(form: &Form) -> Result<Self, RedirectParamsError> {
        let client_id = form
            .single("client_id")
            .map_err(RedirectParamsError::Form)?
            .ok_or(RedirectParamsError::ClientIdMissing)?;
        let redirect_uri = form.single("redirect_uri").map_err(RedirectParamsError::Form)?;
        let redirect_uri = redirect_uri
            .map(RedirectUri::parse_configured)
            .transpose()
            .map_err(RedirectParamsError::Redirect)?;
        Ok(Self {
            client_id: client_id.to_owned(),
            redirect_uri,
        })
    }
}

/// The client's `state`, byte for byte. `None` if it is absent, repeated or too long.
pub fn client_state(form: &Form) -> Option<String> {
    form.single_or_empty("state")
        .ok()
        .flatten()
        .filter(|state| state.len() <= MAX_STATE_BYTES)
        .map(str::to_owned)
}

fn parse_challenge(challenge: Option<&str>, method: Option<&str>, pkce: PkceRule) -> Result<Option<CodeChallenge>, RequestParamsError> {
    let reason = match CodeChallenge::parse(challenge, method) {
        Ok(challenge) => return Ok(Some(challenge)),
        Err(CodeChallengeError::Missing) if pkce == PkceRule::Optional && method.is_none() => return Ok(None),
        Err(CodeChallengeError::Missing) => "code challenge required: PKCE with code_challenge_method=S256",
        Err(CodeChallengeError::Method) => "transform algorithm not supported: use code_challenge_method=S256",
        Err(CodeChallengeError::Malformed) => "code_challenge must be 43 base64url characters",
    };
    Err(bad(OAuthErrorCode::InvalidRequest, reason))
}

impl RequestParams {
    /// Parses the other parameters. Fails if one is invalid or unsupported, or `state` is too long.
    pub fn parse(form: &Form, pkce: PkceRule) -> Result<Self, RequestParamsError> {
        let single = |name| {
            form.single(name)
                .map_err(|error| bad(OAuthErrorCode::InvalidRequest, error.to_string()))
        };
        refuse_request_objects(form)?;
        if form
            .single_or_empty("state")
            .map_err(|error| bad(OAuthErrorCode::InvalidRequest, error.to_string()))?
            .is_some_and(|state| state.len() > MAX_STATE_BYTES)
        {
            return Err(bad(
                OAuthErrorCode::InvalidRequest,
                format!("state is longer than {MAX_STATE_BYTES} bytes"),
            ));
        }
        match single("response_type")? {
            Some("code") => {}
            Some(other) => {
                return Err(bad(
                    OAuthErrorCode::UnsupportedResponseType,
                    format!("response_type '{other}' is not supported; use 'code'"),
                ));
            }
            None => return Err(bad(OAuthErrorCode::InvalidRequest, "response_type is missing; use 'code'")),
        }
        if let Some(mode) = single("response_mode")?.filter(|mode| *mode != "query") {
            return Err(bad(
                OAuthErrorCode::InvalidRequest,
                format!("response_mode '{mode}' is not supported; use 'query'"),
            ));
        }
        let challenge = parse_challenge(single("code_challenge")?, single("code_challenge_method")?, pkce)?;
        // Some clients send `prompt` twice, so each value is checked.
        let prompts: Vec<&str> = form.values("prompt").flat_map(|value| value.split(' ')).collect();
        if prompts.contains(&"none") {
            return Err(bad(
                OAuthErrorCode::AccessDenied,
                "prompt=none cannot be honoured: the user must be asked",
            ));
        }
        let max_age = single("max_age")?.map(parse_max_age).transpose()?;
        let scopes = single("scope")?.map(Scopes::parse).unwrap_or_default();
        let resources = form.values("resource").map(str::to_owned).collect();
        Ok(Self {
            challenge,
            scopes,
            prompt_consent: prompts.contains(&"consent"),
            max_age: if prompts.contains(&"login") { Some(0) } else { max_age },
            resources,
        })
    }
}

fn parse_max_age(text: &str) -> Result<u64, RequestParamsError> {
    let invalid = |_| bad(OAuthErrorCode::InvalidRequest, "max_age is no number of seconds");
    text.parse().map_err(invalid)
}

fn refuse_request_objects(form: &Form) -> Result<(), RequestParamsError> {
    if form.values("request").next().is_some() {
        return Err(bad(OAuthErrorCode::RequestNotSupported, "request objects are not supported"));
    }
    if form.values("request_uri").next().is_some() {
        return Err(bad(
            OAuthErrorCode::RequestUriNotSupported,
            "request objects by reference are not supported",
        ));
    }
    Ok(())
}

fn bad(code: OAuthErrorCode, reason: impl Into<String>) -> RequestParamsError {
    RequestParamsError { code, why: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "response_type=code&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

    fn code(query: &str) -> Option<OAuthErrorCode> {
        RequestParams::parse(&Form::parse(query.as_bytes()).unwrap(), PkceRule::Required)
            .err()
            .map(|e| e.code)
    }

    #[test]
    fn only_the_code_flow_with_s256_is_accepted() {
        assert_eq!(code(GOOD), None);
        assert_eq!(
            code(&GOOD.replace("=code&", "=token&")),
            Some(OAuthErrorCode::UnsupportedResponseType)
        );
        assert_eq!(code("response_type=code"), Some(OAuthErrorCode::InvalidRequest));
        assert_eq!(code(&GOOD.replace("S256", "plain")), Some(OAuthErrorCode::InvalidRequest));
        assert_eq!(
            code(&format!("{GOOD}&response_mode=fragment")),
            Some(OAuthErrorCode::InvalidRequest)
        );
        assert_eq!(code(&format!("{GOOD}&request=x")), Some(OAuthErrorCode::RequestNotSupported));
        assert_eq!(code(&format!("{GOOD}&scope=a&scope=b")), Some(OAuthErrorCode::InvalidRequest));
        assert_eq!(code(&format!("{GOOD}&prompt=consent&prompt=consent")), None);
    }

    #[test]
    fn max_age_and_prompt_login_limit_the_age_of_the_sign_in() {
        let max_age = |query: &str| {
            let form = Form::parse(format!("{GOOD}{query}").as_bytes()).unwrap();
            RequestParams::parse(&form, PkceRule::Required).map(|params| params.max_age)
        };
        assert_eq!(max_age(""), Ok(None));
        assert_eq!(max_age("&max_age=60"), Ok(Some(60)));
        assert_eq!(max_age("&max_age=60&prompt=consent%20login"), Ok(Some(0)));
        for invalid in ["&max_age=-1", "&max_age=soon", "&max_age=1&max_age=1"] {
            assert!(max_age(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn the_client_state_is_preserved_exactly_or_stays_absent() {
        assert_eq!(client_state(&Form::parse(b"state=").unwrap()), Some(String::new()));
        assert_eq!(client_state(&Form::parse(b"a=b").unwrap()), None);
        assert_eq!(client_state(&Form::parse(b"state=%3Cx%3E").unwrap()), Some("<x>".to_owned()));
    }

    #[test]
    fn a_challenge_may_be_left_out_only_where_the_operator_allows_it() {
        let parse = |query: &str, rule| {
            RequestParams::parse(&Form::parse(query.as_bytes()).unwrap(), rule).map(|params| params.challenge.is_some())
        };
        assert_eq!(parse("response_type=code", PkceRule::Optional), Ok(false));
        assert!(parse("response_type=code", PkceRule::Required).is_err());
        assert_eq!(parse(GOOD, PkceRule::Optional), Ok(true));
        // A client that sends something means PKCE.
        for broken in [
            "response_type=code&code_challenge_method=S256",
            "response_type=code&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "response_type=code&code_challenge=short&code_challenge_method=S256",
        ] {
            assert!(parse(broken, PkceRule::Optional).is_err(), "{broken}");
        }
    }
}
