//! `/approvals`: the user of a grant, or an approver, decides about tool calls. A GET decides nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use crate::app::approval_admin::{ApprovalView, DecisionError, Verdict, may_decide};
use crate::app::authorize::login_session::BrowserCookies;
use crate::app::authorize::password::PasswordCheck;
use crate::base::ids::{Digest, Id};
use crate::base::secret::Secret;
use crate::oauth::form::Form;
use crate::web::approval_view::{self, ApprovalsPage, CallView, GroupView};
use crate::web::cookie::{self, CookieName};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// What the page says beside the calls.
#[derive(Default)]
struct Message {
    problem: Option<String>,
    done: Option<String>,
    status: Option<StatusCode>,
}

impl Message {
    fn problem(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            problem: Some(text.into()),
            done: None,
            status: Some(status),
        }
    }
}

/// `GET /approvals` and `/approvals/{id}`.
pub(super) async fn show(request: &BrowserRequest<'_>, id: Option<&str>) -> HttpResponse {
    let user = session_user(request).await;
    page(request, id, user.as_deref(), Message::default()).await
}

/// `POST` of the same: a sign-in, or decisions.
pub(super) async fn submit(request: &BrowserRequest<'_>, id: Option<&str>) -> HttpResponse {
    let session = session_user(request).await;
    let Ok(form) = Form::parse(&request.body) else {
        let refused = Message::problem(StatusCode::BAD_REQUEST, "The form was not readable. Nothing was decided.");
        return page(request, id, session.as_deref(), refused).await;
    };
    let field = |name| form.single(name).ok().flatten().unwrap_or("");
    if field("form") != form_token(request) {
        let refused = Message::problem(StatusCode::FORBIDDEN, "The form was out of date. Nothing was decided; try again.");
        return page(request, id, session.as_deref(), refused).await;
    }
    let (name, password) = (field("username"), field("password"));
    let user = if password.is_empty() && !needs_password(request) {
        session
    } else {
        match check_password(request, name, password).await {
            Ok(()) => Some(name.to_owned()),
            Err(message) => return page(request, id, session.as_deref(), message).await,
        }
    };
    let Some(user) = user else {
        return page(request, id, None, Message::problem(StatusCode::UNAUTHORIZED, "Sign in first.")).await;
    };
    let verdict = match field("decision") {
        "approve" => Verdict::Approve,
        "deny" => Verdict::Deny,
        _ => return signed_in(request, id, &user).await,
    };
    let ids: Vec<Id> = form.values("id").filter_map(Id::parse).collect();
    let message = decide(request, &user, &ids, verdict).await;
    page(request, id, Some(&user), message).await
}

/// Shows the calls after a sign-in, with a session where sessions are on.
async fn signed_in(request: &BrowserRequest<'_>, id: Option<&str>, user: &str) -> HttpResponse {
    let mut response = page(request, id, Some(user), Message::default()).await;
    if let Some(sealed) = request.app.authorize.create_session(user).await {
        cookie::set_sealed(request.app.urls(), response.headers_mut(), CookieName::Session, &sealed);
        // The token of the forms depends on the session, so the page is opened again with it.
        let mut redirect = reply::see_other(&action(request, id));
        *redirect.headers_mut() = {
            let mut headers = redirect.headers().clone();
            for value in response.headers().get_all(http::header::SET_COOKIE) {
                headers.append(http::header::SET_COOKIE, value.clone());
            }
            headers
        };
        return redirect;
    }
    response
}

async fn decide(request: &BrowserRequest<'_>, user: &str, ids: &[Id], verdict: Verdict) -> Message {
    if ids.is_empty() {
        return Message::problem(StatusCode::BAD_REQUEST, "No call is chosen. Nothing was decided.");
    }
    let approvals = &request.app.approvals;
    let mut views = Vec::new();
    for id in ids {
        match approvals.admin().find(*id).await {
            Ok(Some(view)) if is_allowed(request, user, &view) => views.push(view),
            Ok(_) => {
                return Message::problem(
                    StatusCode::FORBIDDEN,
                    "One of the calls is not yours to decide, or is gone. Nothing was decided.",
                );
            }
            Err(error) => return store_failed(&error),
        }
    }
    let tool = |view: &ApprovalView| {
        let binding = &view.record.tool_call().binding;
        (binding.service.clone(), binding.tool.clone())
    };
    if views.windows(2).any(|pair| tool(&pair[0]) != tool(&pair[1])) {
        return Message::problem(StatusCode::BAD_REQUEST, "The calls are of different tools. Nothing was decided.");
    }
    let (mut decided, mut before) = (0, Vec::new());
    for view in &views {
        match approvals.decide(view, verdict, user).await {
            Ok(()) => decided += 1,
            Err(DecisionError::AlreadyDecided(state)) => before.push(state),
            Err(DecisionError::NotFound) => before.push("expired"),
            Err(DecisionError::Store(error)) => return store_failed(&error),
        }
    }
    let what = match verdict {
        Verdict::Approve => "approved",
        Verdict::Deny => "denied",
    };
    let mut message = Message::default();
    if decided > 0 {
        message.done = Some(format!("{decided} {what}. You can close this page."));
    }
    if let Some(state) = before.first() {
        let text = format!("Already decided: {} of {} ({state}).", before.len(), views.len());
        message = Message {
            done: message.done,
            ..Message::problem(StatusCode::CONFLICT, text)
        };
    }
    message
}

fn store_failed(error: &dyn std::fmt::Display) -> Message {
    tracing::error!(%error, "approvals cannot be read or written");
    Message::problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "The store does not answer. Nothing was decided; try again.",
    )
}

/// On plain http, cookies go to every port of the host, so a session is not enough to decide.
fn needs_password(request: &BrowserRequest<'_>) -> bool {
    !request.app.urls().is_https()
}

async fn session_user(request: &BrowserRequest<'_>) -> Option<String> {
    let cookie = cookie::value(request.app.urls(), request.headers, CookieName::Session)?;
    request.app.authorize.session_user(cookie, None).await
}

async fn check_password(request: &BrowserRequest<'_>, name: &str, password: &str) -> Result<(), Message> {
    let site = request.app.urls();
    let cookies = BrowserCookies {
        session: cookie::value(site, request.headers, CookieName::Session),
        known_browser: cookie::value(site, request.headers, CookieName::KnownBrowser),
    };
    let check = request
        .app
        .authorize
        .check_password(request.source, cookies, name, Secret::from(password));
    match check.await {
        PasswordCheck::Right => Ok(()),
        PasswordCheck::Wrong => Err(Message::problem(
            StatusCode::UNAUTHORIZED,
            "User name or password is wrong. Nothing was decided.",
        )),
        PasswordCheck::Wait { seconds } => {
            let text = format!("Too many wrong tries. Wait {seconds} seconds. Nothing was decided.");
            Err(Message::problem(StatusCode::TOO_MANY_REQUESTS, text))
        }
        PasswordCheck::Busy { seconds } => {
            let text = format!("Too many people sign in right now. Wait {seconds} seconds. Nothing was decided.");
            Err(Message::problem(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

/// Binds the forms to the browser's session.
fn form_token(request: &BrowserRequest<'_>) -> String {
    let session = cookie::value(request.app.urls(), request.headers, CookieName::Session).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(Digest::new(&format!("approvals {session}")).truncated())
}

fn action(request: &BrowserRequest<'_>, id: Option<&str>) -> String {
    let base = request.app.urls().prefix();
    match id {
        Some(id) => format!("{base}/approvals/{id}"),
        None => format!("{base}/approvals"),
    }
}

fn is_allowed(request: &BrowserRequest<'_>, user: &str, view: &ApprovalView) -> bool {
    may_decide(&view.record.tool_call().decider, user, request.config.configured.is_approver(user))
}

async fn page(request: &BrowserRequest<'_>, id: Option<&str>, user: Option<&str>, message: Message) -> HttpResponse {
    let (action, token) = (action(request, id), form_token(request));
    let mut status = message.status.unwrap_or(StatusCode::OK);
    let (groups, problem) = match user {
        None => (Vec::new(), message.problem),
        Some(user) => match groups(request, id, user).await {
            Ok(groups) => (groups, message.problem),
            Err(failed) => (Vec::new(), failed.problem),
        },
    };
    if user.is_none() && message.status.is_none() {
        status = StatusCode::UNAUTHORIZED;
    } else if id.is_some() && groups.is_empty() && message.status.is_none() {
        // Another user's call looks as one that does not exist.
        status = StatusCode::NOT_FOUND;
    }
    let is_live = user.is_some() && session_user(request).await.is_some();
    let view = ApprovalsPage {
        base: request.app.urls().prefix(),
        action: &action,
        token: &token,
        user,
        single: id,
        groups,
        is_live,
        needs_password: needs_password(request),
        problem: problem.as_deref(),
        done: message.done.as_deref(),
    };
    let html = approval_view::approvals(&view);
    if is_live {
        reply::page_with_script(status, html)
    } else {
        reply::page(status, html)
    }
}

/// The calls that the user may decide about: the one of the page, or all that wait.
async fn groups(request: &BrowserRequest<'_>, id: Option<&str>, user: &str) -> Result<Vec<GroupView>, Message> {
    let admin = request.app.approvals.admin();
    let now = admin.now();
    let all = admin.list().await.map_err(|error| store_failed(&error))?;
    let is_shown = |view: &&ApprovalView| match id {
        Some(id) => view.id.to_string() == id,
        None => view.is_undecided(now),
    };
    let mut groups: Vec<GroupView> = Vec::new();
    for view in all.iter().filter(is_shown).filter(|view| is_allowed(request, user, view)) {
        let binding = &view.record.tool_call().binding;
        let call = CallView::new(view, view.last_approved(&all), now);
        let is_undecided = call.is_undecided;
        let found = groups
            .iter_mut()
            .find(|group| group.tool == binding.tool && group.service == binding.service);
        if let Some(group) = found {
            group.calls.push(call);
            group.is_undecided |= is_undecided;
        } else {
            groups.push(GroupView {
                number: groups.len(),
                tool: binding.tool.clone(),
                service: binding.service.clone(),
                calls: vec![call],
                is_undecided,
            });
        }
    }
    Ok(groups)
}
