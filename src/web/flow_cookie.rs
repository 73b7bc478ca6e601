//! The cookie that binds a flow to its browser: the form key and, in stateless mode, the flow.

use crate::app::App;
use crate::app::flow_handle::FlowHandle;
use crate::base::secret::Secret;
use crate::web::cookie::{self, CookieName};
use crate::web::reply::HttpResponse;
use crate::web::request::BrowserRequest;

/// The flow of a page: its handle in the path, and the form key in the browser's cookie.
#[derive(Clone, Copy, Debug)]
pub struct PageFlow<'a> {
    /// The flow's handle in the path.
    pub path: &'a str,
    /// The form key.
    pub form: Option<&'a str>,
}

/// The flow's handle, with the client-side record if the cookie has one, and the form key.
pub(super) fn read(request: &BrowserRequest<'_>, flow: FlowHandle) -> (FlowHandle, Option<String>) {
    let name = flow.to_string();
    // Neither the key nor a client-side record has a dot.
    match cookie::value(request.app.urls(), request.headers, CookieName::Form(&name)) {
        None => (flow, None),
        Some(value) => match value.split_once('.') {
            None => (flow, Some(value.to_owned())),
            Some((key, record)) => (flow.with_record(record), Some(key.to_owned())),
        },
    }
}

/// Sets the cookie to a new form key and the flow's current client-side record.
pub(super) fn set(app: &App, response: &mut HttpResponse, flow: &FlowHandle, key: &Secret) {
    let record = flow.client_side_record().map(|record| format!(".{record}")).unwrap_or_default();
    let value = format!("{}{record}", key.expose());
    cookie::set(app.urls(), response.headers_mut(), CookieName::Form(&flow.to_string()), &value);
}

/// Sends the current client-side record, if there is one, with the same form key.
pub(super) fn refresh(app: &App, response: &mut HttpResponse, flow: &FlowHandle, key: Option<&str>) {
    if flow.client_side_record().is_some() {
        set(app, response, flow, &Secret::from(key.unwrap_or_default()));
    }
}
