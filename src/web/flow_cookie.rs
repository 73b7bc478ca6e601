//! The cookie that binds a journey to its browser: the key of its forms, and the journey itself where nothing is kept.

use crate::app::App;
use crate::app::flow_handle::FlowHandle;
use crate::base::secret::Secret;
use crate::web::cookie::{self, CookieName};
use crate::web::reply::HttpResponse;
use crate::web::router::BrowserRequest;

/// What the browser brings for a journey: its handle, and the key of its forms, if it has one.
pub fn read(app: &App, asked: &BrowserRequest<'_>, flow: FlowHandle) -> (FlowHandle, Option<String>) {
    let named = flow.to_string();
    // A key has no dot, and neither has what may follow it.
    match cookie::value(app.urls(), asked.headers, CookieName::Form(&named)) {
        None => (flow, None),
        Some(value) => match value.split_once('.') {
            None => (flow, Some(value.to_owned())),
            Some((key, carried)) => (flow.with_record(carried), Some(key.to_owned())),
        },
    }
}

/// Sets it to a new key, for the journey as it is now.
pub fn set(app: &App, answer: &mut HttpResponse, flow: &FlowHandle, key: &Secret) {
    let carried = flow.client_side_record().map(|carried| format!(".{carried}")).unwrap_or_default();
    let value = format!("{}{carried}", key.expose());
    cookie::set(app.urls(), answer.headers_mut(), CookieName::Form(&flow.to_string()), &value);
}

/// The journey moved on, and its key stays: where it travels, the browser gets it anew.
pub fn refresh(app: &App, answer: &mut HttpResponse, flow: &FlowHandle, key: Option<&str>) {
    if flow.client_side_record().is_some() {
        set(app, answer, flow, &Secret::from(key.unwrap_or_default()));
    }
}
