//! Configuration files: read into something that can be served, or refused with a place in the file; never a panic.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::config::document::{self, Environment, FileContents};
use mcp_oauth_gateway::config::spanned::Location;
use mcp_oauth_gateway::config::validate;

fuzz_target!(|text: &str| {
    let outside = Environment {
        variable: &|name| name.starts_with('A').then(|| "value".to_owned()),
        file: &|path| {
            let contents = FileContents {
                text: "secret\n".to_owned(),
                open_to_others: false,
            };
            path.starts_with("/a").then_some(contents).ok_or_else(|| "no such file".to_owned())
        },
    };
    let whole = Location::Line {
        file: "f".into(),
        line: 1,
        key: String::new(),
    };
    let checked = document::read("f", text, outside).and_then(|spoken| validate::validate(spoken, &whole, Some(PathBuf::from("/data"))));
    match checked {
        Ok(checked) => {
            assert!(!checked.start.listen.is_empty());
            assert!(checked.config.services.iter().filter(|service| service.is_default).count() <= 1);
            assert_eq!(checked.token_modes.len(), checked.config.services.len());
            assert_eq!(checked.check_features().is_ok(), checked.missing_features.is_empty());
        }
        Err(wrong) => {
            let Location::Line { line, .. } = &wrong.at else {
                panic!("{wrong}")
            };
            assert!((1..=text.lines().count() + 1).contains(line), "{wrong}");
            assert!(!wrong.what.is_empty() && !wrong.instead.is_empty(), "{wrong}");
        }
    }
});
