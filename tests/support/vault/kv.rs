//! KV version 2 of the fake Vault: data and metadata, as documented by Vault.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{State, no};

impl State {
    pub(super) fn data(&mut self, method: &str, key: (String, String), body: &Value) -> (u16, Value) {
        let will_be = self.deletes;
        let about = |version: u64, is_deleted: bool| {
            let deleted = if is_deleted || will_be {
                "2026-01-01T00:00:00.000000000Z"
            } else {
                ""
            };
            json!({ "created_time": "2026-01-01T00:00:00.000000000Z", "custom_metadata": null, "deletion_time": deleted, "destroyed": false, "version": version })
        };
        match method {
            "GET" => match self
                .keys
                .get(&key)
                .and_then(|meta| Some((meta.current, meta.versions.get(&meta.current)?)))
            {
                None => no(404, ""),
                Some((version, None)) => (404, json!({ "data": { "data": null, "metadata": about(version, true) } })),
                Some((version, Some(data))) => (200, json!({ "data": { "data": data, "metadata": about(version, false) } })),
            },
            "POST" | "PUT" => {
                let current = self.keys.get(&key).map_or(0, |meta| meta.current);
                if body["data"].is_null() {
                    return no(400, "no data provided");
                }
                if body["options"]["cas"].as_u64().is_some_and(|cas| cas != current) {
                    return no(400, "check-and-set parameter did not match the current version");
                }
                let meta = self.keys.entry(key).or_default();
                meta.current += 1;
                meta.versions.insert(meta.current, Some(body["data"].clone()));
                let most = if meta.max == 0 { 10 } else { meta.max };
                while meta.versions.len() > most {
                    meta.versions.pop_first();
                }
                (200, json!({ "data": about(meta.current, false) }))
            }
            "DELETE" => {
                if let Some(meta) = self.keys.get_mut(&key) {
                    meta.versions.insert(meta.current, None);
                }
                (204, Value::Null)
            }
            _ => no(405, "unsupported operation"),
        }
    }

    pub(super) fn metadata(&mut self, method: &str, (namespace, name): (String, String), body: &Value) -> (u16, Value) {
        match method {
            "LIST" => {
                let below = if name.is_empty() || name.ends_with('/') {
                    name
                } else {
                    format!("{name}/")
                };
                let all = self.keys.keys().filter(|(of, _)| *of == namespace);
                let next = |name: &str| match name.split_once('/') {
                    Some((part, _)) => format!("{part}/"),
                    None => name.to_owned(),
                };
                let keys: BTreeSet<String> = all.filter_map(|(_, name)| name.strip_prefix(&below).map(next)).collect();
                if keys.is_empty() {
                    return no(404, "");
                }
                (200, json!({ "data": { "keys": keys } }))
            }
            "POST" | "PUT" => {
                self.keys.entry((namespace, name)).or_default().max = usize::try_from(body["max_versions"].as_u64().unwrap_or(0)).unwrap();
                (204, Value::Null)
            }
            "DELETE" => {
                self.keys.remove(&(namespace, name));
                (204, Value::Null)
            }
            _ => no(405, "unsupported operation"),
        }
    }
}
