//! A sign-in at an upstream, from the terminal: by the device flow, a browser, or a pasted response.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::app::runtime_config::ActiveService;
use crate::app::stored_logins::LoginHandle;
use crate::cli::bridge::browser_wait::BrowserWait;
use crate::cli::bridge::callback::CallbackReceiver;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::bridge::{browser, rejection};
use crate::cli::grants::print_json;
use crate::cli::table::printable;
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::bridge_flags::LoginFlags;
use crate::flow::stored_token::OAuthCredential;
use crate::oauth::device_authorization::DeviceAuthorization;
use crate::upstream::auth_server::AuthServer;

/// How the user signs in.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// The flags.
    pub flags: &'a LoginFlags,
    /// Whether the output is JSON.
    pub json: bool,
}

/// The tokens of a sign-in. The page in the browser waits until [`SignedInUpstream::close`].
pub struct SignedInUpstream {
    /// The credential to store.
    pub credential: OAuthCredential,
    page: Option<WaitingPage>,
}

/// A browser that shows the callback's page.
struct WaitingPage {
    handle: LoginHandle,
    receiver: CallbackReceiver,
}

impl SignedInUpstream {
    /// Reports the result to the page in the browser. `failure` is the reason of a failure.
    pub async fn close(self, local: &LocalGateway, failure: Option<&str>) {
        if let Some(page) = self.page {
            page.close(local, failure).await;
        }
    }
}

impl WaitingPage {
    async fn close(self, local: &LocalGateway, failure: Option<&str>) {
        // If this fails, the page refers the user to the terminal.
        let _ = match failure {
            None => local.app.stored_logins.note_done(&self.handle).await,
            Some(reason) => local.app.stored_logins.note_failed(&self.handle, reason).await,
        };
        self.receiver.close().await;
    }
}

impl SignIn<'_> {
    /// Signs the user in at the upstream of a service.
    ///
    /// # Errors
    /// If the upstream cannot be used, the user denies, or the time is over.
    pub async fn run(self, local: &LocalGateway, active: &Arc<ActiveService>) -> Result<SignedInUpstream, Failure> {
        let server = match local.app.stored_logins.server(&local.http, active).await {
            Ok(server) => server,
            Err(error) => return Err(rejection::discovery_failure(local, active, &error).await),
        };
        if server.device_authorization_endpoint.is_some() && !self.flags.no_device {
            match local.app.stored_logins.device_codes(&local.http, active, &server).await {
                Ok(codes) => return self.by_device(local, active, &server, &codes).await,
                Err(error) => print_stderr(format_args!(
                    "the device flow does not work here ({}), so a browser is used",
                    printable(&error.to_string())
                )),
            }
        }
        self.by_browser(local, active, &server).await
    }

    async fn by_device(
        self,
        local: &LocalGateway,
        active: &Arc<ActiveService>,
        server: &AuthServer,
        codes: &DeviceAuthorization,
    ) -> Result<SignedInUpstream, Failure> {
        let page = codes.verification_uri_complete.as_ref().unwrap_or(&codes.verification_uri);
        if self.json {
            print_json(&json!({
                "verification_uri": codes.verification_uri.as_str(), "user_code": codes.user_code, "complete": page.as_str(),
            }))?;
        } else {
            print_stderr(format_args!(
                "Open {} and enter the code {}",
                codes.verification_uri, codes.user_code
            ));
        }
        if !self.flags.no_browser {
            open_browser(page.as_str());
        }
        let login = local.app.stored_logins.poll_device(&local.http, active, server, codes);
        match tokio::time::timeout(self.timeout(), login).await {
            Ok(Ok(credential)) => Ok(SignedInUpstream { credential, page: None }),
            Ok(Err(error)) => Err(Failure::Act(format!("{}\n  run the command again", printable(&error.to_string())))),
            Err(_) => Err(self.timeout_failure()),
        }
    }

    async fn by_browser(self, local: &LocalGateway, active: &Arc<ActiveService>, server: &AuthServer) -> Result<SignedInUpstream, Failure> {
        let (logins, mut receiver) = (&local.app.stored_logins, CallbackReceiver::new(local)?);
        let started = logins.start(active, server, self.flags.timeout).await;
        let started = started.map_err(|error| rejection::failure(&error))?;
        receiver.ensure(local)?;
        self.open_authorization_url(&started.url)?;
        let mut wait = BrowserWait {
            local,
            service: &active.service.name,
            handle: &started.handle,
            receiver: &mut receiver,
            reads_input: self.flags.no_browser,
        };
        let result = tokio::time::timeout(self.timeout(), wait.wait_for_code()).await;
        if let Err(failure) = result.unwrap_or_else(|_| Err(self.timeout_failure())) {
            // A callback that arrives later is refused.
            let _ = logins.cancel(&started.handle).await;
            receiver.close().await;
            return Err(failure);
        }
        let handle = started.handle;
        let page = WaitingPage { handle, receiver };
        match logins.exchange(active, server, &page.handle).await {
            Ok(credential) => Ok(SignedInUpstream {
                credential,
                page: Some(page),
            }),
            Err(error) => {
                page.close(local, Some(&error.public_message())).await;
                Err(rejection::failure(&error))
            }
        }
    }

    /// Prints the authorization URL, and opens it in a browser.
    fn open_authorization_url(self, url: &str) -> Result<(), Failure> {
        match (self.json, self.flags.no_browser) {
            (true, _) => print_json(&json!({ "open": url }))?,
            (false, true) => print_stdout(&format!(
                "Open this address in a browser:\n\n  {url}\n\nThen paste the address of the last page here, or the code, if a page shows one:\n"
            ))?,
            (false, false) => print_stderr(format_args!("Sign in with the browser that opens now, or open:\n  {url}")),
        }
        if !self.flags.no_browser {
            open_browser(url);
        }
        Ok(())
    }

    fn timeout(self) -> Duration {
        Duration::from_secs(self.flags.timeout)
    }

    fn timeout_failure(self) -> Failure {
        let seconds = self.flags.timeout;
        Failure::Act(format!(
            "there was no sign-in within {seconds} seconds\n  run the command again; --timeout gives more time"
        ))
    }
}

fn open_browser(url: &str) {
    if let Err(error) = browser::open(url) {
        print_stderr(format_args!("no browser was opened ({error}); open the address yourself"));
    }
}
