//! Turns refusals of the use cases into failures of a command.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::app::error::{Rejection, SetupFault};
use crate::app::runtime_config::ActiveService;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::check;
use crate::cli::table::printable;
use crate::service::Upstream;

/// The failure of a command for a refusal.
pub fn failure(rejection: &Rejection) -> Failure {
    let text = printable(&rejection.to_string());
    if rejection.retry_after().is_some() {
        Failure::Broken(format!("{text}\n  try again later"))
    } else {
        Failure::Act(text)
    }
}

/// The failure of a command for a failed discovery or registration: with every step, and what to do.
pub async fn discovery_failure(local: &LocalGateway, active: &Arc<ActiveService>, rejection: &Rejection) -> Failure {
    let fault = if let Rejection::UpstreamSetup { fault, .. } = rejection {
        Some(*fault)
    } else {
        None
    };
    if let Some(SetupFault::NoClientId | SetupFault::RegistrationRefused) = fault {
        let advice = "create an OAuth app at the upstream with this callback URL, and give its --client-id";
        let callback = local.app.urls().upstream_callback(&active.service);
        let text = printable(&rejection.to_string());
        return Failure::Act(format!("{text}\n  {advice}:\n  {callback}"));
    }
    let is_search = fault == Some(SetupFault::NotFound) || matches!(rejection, Rejection::UpstreamDown { .. });
    let failure = failure(rejection);
    let Upstream::Stored(settings) = &active.service.upstream else {
        return failure;
    };
    if !is_search {
        return failure;
    }
    let mut steps = String::new();
    check::report_discovery(&local.http, &active.service, &settings.auth_server, &mut steps).await;
    let mut text = failure.text().to_owned();
    if steps.contains(": 200, without a challenge") {
        let table = "access = \"public\" and upstream = \"none\"";
        let _ = write!(
            text,
            "\n  the server answers without a sign-in: write its service into the file by hand, with {table}"
        );
    }
    for step in steps.lines() {
        let _ = write!(text, "\n{}", printable(step));
    }
    match failure {
        Failure::Act(_) => Failure::Act(text),
        Failure::Broken(_) => Failure::Broken(text),
    }
}
