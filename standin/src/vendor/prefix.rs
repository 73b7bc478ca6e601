//! What reasoning is bound to: the conversation before it, as a digest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::Value;

/// The digest of tools and of items or blocks. `ignored` members change nothing.
pub fn prefix_digest<'a>(tools: &Value, before: impl Iterator<Item = &'a Value>, ignored: &[&str]) -> String {
    let mut text = tools.to_string();
    for item in before {
        let mut item = item.clone();
        if let Some(members) = item.as_object_mut() {
            for name in ignored {
                members.remove(*name);
            }
        }
        text.push('\n');
        text.push_str(&item.to_string());
    }
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
