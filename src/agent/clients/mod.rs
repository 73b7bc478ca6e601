//! Known MCP clients as data, with sources. A difference between clients is a field, never code.

mod apps;
pub mod profile;
mod sdks;
mod terminal;

use crate::agent::clients::profile::ClientProfile;

/// All known clients.
pub fn all() -> impl Iterator<Item = &'static ClientProfile> {
    [terminal::PROFILES, apps::PROFILES, sdks::PROFILES].into_iter().flatten()
}

/// The client of this name.
pub fn find(name: &str) -> Option<&'static ClientProfile> {
    all().find(|client| client.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value};

    use super::*;
    use crate::oauth::client_id_metadata::ClientIdUrl;
    use crate::oauth::redirect_uri::RedirectUri;

    #[test]
    fn every_client_has_a_name_of_its_own_a_source_and_usable_redirect_uris() {
        let names: BTreeSet<_> = all().map(|client| client.name).collect();
        assert_eq!((names.len(), all().count()), (20, 20));
        for client in all() {
            let ClientProfile { name, registration, .. } = client;
            assert_eq!(find(name), Some(client));
            assert!(!client.sources.is_empty() && !client.title.is_empty(), "{name}");
            let uri = |text: &&str| RedirectUri::parse(text).unwrap_or_else(|why| panic!("{name}: {text}: {why}"));
            assert!(
                !registration.redirect_uris.is_empty() && !registration.client_name.is_empty(),
                "{name}"
            );
            registration.redirect_uris.iter().map(uri).for_each(drop);
            serde_json::from_str::<Map<String, Value>>(registration.more).unwrap();
            if let Some(document) = client.document {
                ClientIdUrl::parse(document.url, false).unwrap();
                let listed: Vec<_> = document.redirect_uris.iter().map(uri).collect();
                let used = uri(&document.redirect_uri);
                assert!(listed.iter().any(|listed| listed.matches(&used)), "{name}");
            }
        }
    }
}
