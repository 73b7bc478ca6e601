//! Forms and queries: a parameter that comes twice is never a choice, and what is read is what was written.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::oauth::form::{Form, FormError, MAX_PARAMS};

const NAMES: [&str; 6] = ["a", "state", "code", "client_id", "resource", ""];

/// As JSON: what is read is an object of texts, and each of them is there.
fn as_json(bytes: &[u8]) {
    match Form::from_json(bytes) {
        Ok(form) => {
            let members: HashMap<String, String> = serde_json::from_slice(bytes).expect("an object of texts");
            assert!(members.len() <= MAX_PARAMS);
            for (name, value) in &members {
                assert!(value.is_empty() || form.values(name).any(|there| there == value));
            }
        }
        Err(FormError::TooMany | FormError::NotJson) => {}
        Err(FormError::Repeated(_) | FormError::NotUtf8) => panic!("JSON is text, and a name is judged only when it is asked for"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    as_json(bytes);
    // Counted by hand: pieces between `&` that are not empty.
    let pieces: Vec<&[u8]> = bytes.split(|b| *b == b'&').filter(|piece| !piece.is_empty()).collect();
    let form = match Form::parse(bytes) {
        Ok(form) => form,
        Err(FormError::TooMany) => return assert!(pieces.len() > MAX_PARAMS),
        Err(FormError::NotUtf8) => return,
        Err(FormError::Repeated(_) | FormError::NotJson) => panic!("a name is judged only when it is asked for"),
    };
    assert!(pieces.len() <= MAX_PARAMS);
    for name in NAMES {
        // Written plainly, without escapes: at least so often is it there.
        let plain = pieces
            .iter()
            .filter(|piece| piece.split(|b| *b == b'=').next() == Some(name.as_bytes()))
            .count();
        let all: Vec<&str> = form.values(name).collect();
        assert!(all.iter().all(|value| !value.is_empty() && !value.contains('\u{fffd}')));
        match (form.single(name), form.single_or_empty(name)) {
            (Err(FormError::Repeated(one)), Err(FormError::Repeated(exact))) => assert!(one == name && exact == name),
            (Ok(one), Ok(exact)) => {
                assert!(plain <= 1, "{name:?} came {plain} times and was read");
                assert!(plain == 0 || exact.is_some(), "{name:?} was lost");
                assert_eq!(one, exact.filter(|value| !value.is_empty()));
                assert_eq!(all, one.into_iter().collect::<Vec<_>>());
            }
            (one, exact) => panic!("{name:?}: {one:?}, but {exact:?}"),
        }
    }
});
