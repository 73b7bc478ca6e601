//! Answers of token endpoints: tokens come only of a success, are fit for a header, and end within reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::oauth::token_response::{self, OAuthErrorResponse, TokenResponseError};

/// Status, content type, when it was asked, body.
type Answer<'a> = (u16, Option<&'a str>, u64, &'a [u8]);

fuzz_target!(|answer: Answer<'_>| {
    let (status, content_type, asked, body) = answer;
    let asked = UnixTime(asked);
    read(status, content_type, body, asked);
    // Most statuses never grant; so also as if it were a success.
    read(200, content_type, body, asked);
    if let Some(refusal) = token_response::parse_error_response(body) {
        safe(&refusal);
    }
});

fn read(status: u16, content_type: Option<&str>, body: &[u8], asked: UnixTime) {
    match token_response::parse_token_response(status, content_type, body, asked) {
        Ok(tokens) => {
            assert!((200..300).contains(&status), "{status}");
            assert!(
                token_response::parse_error_response(body).is_none(),
                "a refusal was taken for tokens"
            );
            header(tokens.access.expose());
            if let Some(refresh) = &tokens.refresh {
                assert!(!refresh.expose().is_empty());
            }
            for end in [tokens.expires, tokens.refresh_expires].into_iter().flatten() {
                assert!(end >= asked && end.seconds_since(asked) <= 3_155_760_000, "{end:?} of {asked:?}");
            }
        }
        Err(TokenResponseError::Refused(refusal)) => {
            assert!(status < 500 || refusal.is_invalid_grant() || refusal.is_invalid_client());
            safe(&refusal);
        }
        Err(TokenResponseError::Temporary(why) | TokenResponseError::Unreadable(why)) => shown(&why),
    }
}

fn header(token: &str) {
    assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()), "{token:?}");
}

fn safe(refusal: &OAuthErrorResponse) {
    assert!(!refusal.code.is_empty() && refusal.code.len() <= 64);
    shown(&refusal.to_string());
}

fn shown(why: &str) {
    assert!(why.len() <= 500 && why.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{why:?}");
}
