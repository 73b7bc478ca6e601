//! What no Rust file may contain, tests included: `unsafe`, `todo!`, `#[ignore]`, `#[allow]`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::check::Finding;

/// Checks the tokens of a file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut findings = Vec::new();
    walk(path, tokens, &mut findings);
    findings
}

fn walk(path: &str, tokens: TokenStream, findings: &mut Vec<Finding>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        let is_punct = |index: Option<usize>, wanted: char| {
            let tree = index.and_then(|index| trees.get(index));
            matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
        };
        let message = match tree {
            TokenTree::Ident(name) if name == "unsafe" => Some("`unsafe`: write it safely"),
            TokenTree::Ident(name) if (name == "todo" || name == "unimplemented") && is_punct(Some(at + 1), '!') => {
                Some("`todo!`: write it, or leave it out")
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let is_inner = is_punct(at.checked_sub(1), '!') && is_punct(at.checked_sub(2), '#');
                let is_attribute = is_inner || is_punct(at.checked_sub(1), '#');
                is_attribute.then(|| attribute(path, &group.stream().to_string())).flatten()
            }
            _ => None,
        };
        if let Some(message) = message {
            let line = tree.span().start().line;
            findings.push(Finding::new("forbidden", path, line, message.to_owned()));
        }
        if let TokenTree::Group(group) = tree {
            walk(path, group.stream(), findings);
        }
    }
}

/// `standin` has code that only some test binaries use. An `allow` of `allow_attributes` is in a macro, where `expect`
/// cannot be used.
fn attribute(path: &str, text: &str) -> Option<&'static str> {
    let has = |word: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
    if text == "ignore" || text.starts_with("ignore =") || (text.starts_with("cfg_attr") && has("ignore")) {
        return Some("`#[ignore]`: make the test pass, or remove it with its claim");
    }
    let allows = text.starts_with("allow") || (text.starts_with("cfg_attr") && has("allow"));
    (allows && !path.starts_with("standin/") && !has("allow_attributes")).then_some("`#[allow]`: use `#[expect]` with a reason")
}
