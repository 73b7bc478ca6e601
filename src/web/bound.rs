//! The cookie that binds a journey to its browser: the key of its forms, and the journey itself where nothing is kept.

use crate::base::secret::Secret;
use crate::gateway::Gateway;
use crate::gateway::authorize::Flow;
use crate::web::cookie::{self, Name};
use crate::web::handle::Asked;
use crate::web::reply::Answer;

/// What the browser brings for a journey: its handle, and the key of its forms, if it has one.
pub fn of(gateway: &Gateway, asked: &Asked<'_>, flow: Flow) -> (Flow, Option<String>) {
    let named = flow.to_string();
    // A key has no dot, and neither has what may follow it.
    match cookie::value(gateway.site(), asked.headers, Name::Form(&named)) {
        None => (flow, None),
        Some(value) => match value.split_once('.') {
            None => (flow, Some(value.to_owned())),
            Some((key, carried)) => (flow.bringing(carried), Some(key.to_owned())),
        },
    }
}

/// Sets it to a new key, for the journey as it is now.
pub fn set(gateway: &Gateway, answer: &mut Answer, flow: &Flow, key: &Secret) {
    let carried = flow.carried().map(|carried| format!(".{carried}")).unwrap_or_default();
    let value = format!("{}{carried}", key.expose());
    cookie::set(gateway.site(), answer.headers_mut(), Name::Form(&flow.to_string()), &value);
}

/// The journey moved on, and its key stays: where it travels, the browser gets it anew.
pub fn moved(gateway: &Gateway, answer: &mut Answer, flow: &Flow, key: Option<&str>) {
    if flow.carried().is_some() {
        set(gateway, answer, flow, &Secret::from(key.unwrap_or_default()));
    }
}
