//! The pages around an identity provider: the way to it, and what a browser is shown that comes back.

use std::sync::Arc;

use http::StatusCode;

use crate::flow::authorize::Asked as Wanted;
use crate::gateway::authorize::Flow;
use crate::gateway::callback::Home;
use crate::gateway::idp::{Arrived, Stranger};
use crate::gateway::provider::RunningIdp;
use crate::gateway::{Gateway, Lane};
use crate::web::bound;
use crate::web::cookie::{self, Name};
use crate::web::handle::Asked;
use crate::web::journey::{GONE, client_view, error_page, hidden, homeward, host_of, on_by_get};
use crate::web::pages::{self, Back, ErrorPage, ToProvider};
use crate::web::reply::{self, Answer};

/// "Continue with …".
pub fn page(asked: &Asked<'_>, gateway: &Gateway, (flow, form): (&str, Option<&str>), wanted: &Wanted, provider: &str) -> Answer {
    let Some(running) = asked.live.find(&wanted.service) else {
        return error_page(gateway, &GONE, None);
    };
    let (title, after) = (running.service.shown(), running.service.signs_in_at());
    let shown = wanted.back.uri().shown();
    let prefix = gateway.site().prefix();
    let view = ToProvider {
        base: prefix,
        action: &format!("{prefix}/login/{flow}"),
        client: client_view(wanted, &shown),
        service: &title,
        provider,
        upstream_host: after,
        token: &hidden(form, flow),
    };
    reply::page(StatusCode::OK, pages::to_provider(&view))
}

/// `POST /login/{flow}` of that page: on to the provider by GET.
pub async fn go(gateway: &Gateway, lane: &Lane, asked: &Asked<'_>, (flow, handle): (&str, &Flow), form: Option<&str>) -> Answer {
    match gateway.to_idp(lane, handle, form, asked.source).await {
        Ok(onward) => {
            let mut answer = on_by_get(gateway, &onward.location, &host_of(&onward.location), false);
            // Only now does this cookie exist: whoever was not sent to the provider in this browser cannot come back through it.
            cookie::set(gateway.site(), answer.headers_mut(), Name::Provider(flow), onward.browser.expose());
            bound::moved(gateway, &mut answer, &onward.flow, form);
            answer
        }
        Err(why) => error_page(gateway, &why, None),
    }
}

/// `GET /login/callback/{idp}`.
pub async fn callback(gateway: &Gateway, asked: &Asked<'_>, running: &Arc<RunningIdp>) -> Answer {
    let site = gateway.site();
    let brings = |flow: Flow| {
        let browser = cookie::value(site, asked.headers, Name::Provider(&flow.to_string())).map(str::to_owned);
        (bound::of(gateway, asked, flow).0, browser)
    };
    match gateway.idp_callback(running, asked.query.as_bytes(), brings).await {
        Ok(Arrived::SignedIn(flow, form)) => {
            let mut answer = reply::see_other(&format!("{}/consent/{flow}", asked.called.base()));
            cookie::clear(site, answer.headers_mut(), Name::Provider(&flow.to_string()));
            bound::set(gateway, &mut answer, &flow, &form);
            answer
        }
        Ok(Arrived::Failed(home)) => {
            let answer = if home.back.is_safe_before_consent() {
                homeward(gateway, &home.back, &home.location)
            } else {
                let what = "The sign-in at the identity provider did not succeed.";
                let todo = "Go back to the app and try again. If it fails again, ask whoever runs this gateway.";
                ended(gateway, &home, (what, "", todo))
            };
            without_cookies(gateway, answer, &home.flow)
        }
        Ok(Arrived::NotAdmitted(home, Stranger { who, provider })) => {
            let what = format!("{provider} says that you are {who}. This user may not use this gateway.");
            let why = "The sign-in itself worked, but whoever runs this gateway has not let this user in.";
            let todo = "Ask whoever runs this gateway to let you in, or start again in your client and sign in as somebody else.";
            let answer = ended(gateway, &home, (&what, why, todo));
            without_cookies(gateway, answer, &home.flow)
        }
        Err(why) => error_page(gateway, &why, None),
    }
}

/// A page that ends the journey, with a way back for the reader to choose: nobody is sent on by force before consent.
fn ended(gateway: &Gateway, home: &Home, (what, why, todo): (&str, &str, &str)) -> Answer {
    let reference = reply::reference();
    tracing::warn!(reference, "a sign-in at an identity provider ended on a page");
    let shown = home.back.uri().shown();
    let view = ErrorPage {
        base: gateway.site().prefix(),
        title: "You are not signed in",
        what,
        why,
        todo,
        reference: &reference,
        back: Some(Back {
            href: &home.location,
            host: &shown,
        }),
    };
    reply::page(StatusCode::FORBIDDEN, pages::error(&view))
}

fn without_cookies(gateway: &Gateway, mut answer: Answer, flow: &Flow) -> Answer {
    let flow = flow.to_string();
    cookie::clear(gateway.site(), answer.headers_mut(), Name::Provider(&flow));
    cookie::clear(gateway.site(), answer.headers_mut(), Name::Form(&flow));
    answer
}
