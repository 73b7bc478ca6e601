//! The consent page, and where it leads.

use crate::flow::authorize::Asked as Wanted;
use crate::flow::who::Who;
use crate::gateway::Gateway;
use crate::gateway::approve::Onward;
use crate::gateway::callback::Home;
use crate::gateway::paste::{NotTaken, Wanted as Pasted};
use crate::oauth::redirect::Place;
use crate::web::bound;
use crate::web::cookie::{self, Name};
use crate::web::handle::Asked;
use crate::web::journey::{GONE, client_view, error_page, hidden, host_of, on_by_get};
use crate::web::pages::{self, Consent};
use crate::web::paste;
use crate::web::reply::{self, Answer};

/// The page; `not_taken`: why what was pasted the last time was not taken.
pub fn page(
    asked: &Asked<'_>,
    gateway: &Gateway,
    (flow, form): (&str, Option<&str>),
    (wanted, who): (&Wanted, &Who),
    not_taken: Option<NotTaken>,
) -> Answer {
    let Some(running) = asked.live.find(&wanted.service) else {
        return error_page(gateway, &GONE, None);
    };
    let (title, after) = (running.service.shown(), running.service.signs_in_at());
    let (status, problem) = paste::told(not_taken, running.service.host());
    let shown = wanted.back.uri().shown();
    let prefix = gateway.site().prefix();
    let view = Consent {
        base: prefix,
        action: &format!("{prefix}/consent/{flow}"),
        client: client_view(wanted, &shown),
        service: &title,
        upstream_host: after,
        scopes: &wanted.scopes.list(),
        user: who.shown(),
        token: &hidden(form, flow),
        loopback_only: wanted.loopback_only,
        has_upstream_login: !after.is_empty(),
        key: Pasted::of(&running.service).map(|wanted| paste::field(wanted, problem.as_deref())),
    };
    reply::page(status, pages::consent(&view))
}

/// The user said yes, now or before.
pub fn approved(gateway: &Gateway, asked: &Asked<'_>, (flow, form): (&str, Option<&str>), onward: Onward) -> Answer {
    match onward {
        Onward::Home(home) => went_home(gateway, &home),
        Onward::Again(wanted, who, why) => page(asked, gateway, (flow, form), (&wanted, &who), Some(why)),
        Onward::Upstream(onward) => {
            let host = host_of(&onward.location);
            let mut answer = on_by_get(gateway, &onward.location, &host, false);
            // Only now does this cookie exist: whoever did not consent in this browser cannot come back through it.
            cookie::set(gateway.site(), answer.headers_mut(), Name::Upstream(flow), onward.browser.expose());
            bound::moved(gateway, &mut answer, &onward.flow, form);
            answer
        }
    }
}

/// After consent, straight back to the client.
fn went_home(gateway: &Gateway, home: &Home) -> Answer {
    let closing = home.back.uri().place() == Place::App;
    let mut answer = on_by_get(gateway, &home.location, &home.back.uri().shown(), closing);
    cookie::clear(gateway.site(), answer.headers_mut(), Name::Form(&home.flow.to_string()));
    answer
}
