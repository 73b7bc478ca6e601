//! Waits for the code of a sign-in: from the callback, or pasted into the terminal.

use std::io::BufRead as _;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::error::Rejection;
use crate::app::stored_logins::{LoginHandle, LoginProgress};
use crate::cli::bridge::callback::CallbackReceiver;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::bridge::pasted_response::PastedResponse;
use crate::cli::bridge::rejection;
use crate::cli::table::printable;

/// The pause between two looks for the callback.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A command that waits for the browser.
pub struct BrowserWait<'a> {
    /// The components of the gateway.
    pub local: &'a LocalGateway,
    /// The name of the service.
    pub service: &'a str,
    /// The sign-in.
    pub handle: &'a LoginHandle,
    /// The receiver of the callback.
    pub receiver: &'a mut CallbackReceiver,
    /// Whether the user may paste the authorization response.
    pub reads_input: bool,
}

impl BrowserWait<'_> {
    /// Waits until the record of the sign-in has a code.
    ///
    /// # Errors
    /// If the user or the upstream refuses, the pasted text is wrong, or the port is occupied.
    pub async fn wait_for_code(&mut self) -> Result<(), Failure> {
        let mut line = self.reads_input.then(read_line);
        loop {
            match self.local.app.stored_logins.progress(self.handle).await {
                Ok(LoginProgress::CodeReceived) => return Ok(()),
                Ok(LoginProgress::Failed(reason)) => {
                    return Err(Failure::Act(format!("{}\n  run the command again", printable(&reason))));
                }
                Ok(LoginProgress::Waiting) => {}
                Ok(LoginProgress::Done | LoginProgress::Expired) => {
                    return Err(Failure::Act("this sign-in has ended; run the command again".to_owned()));
                }
                Err(error) => return Err(Failure::Broken(error.to_string())),
            }
            let received = self.receiver.ensure(self.local);
            // A pasted response needs no listener.
            if !self.reads_input {
                received?;
            }
            match &mut line {
                Some(input) => match tokio::time::timeout(POLL_INTERVAL, input).await {
                    Ok(Ok(text)) => {
                        line = None;
                        self.use_pasted_text(&text).await?;
                    }
                    // The input has ended; the callback can still arrive.
                    Ok(Err(_)) => line = None,
                    Err(_) => {}
                },
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Uses a pasted text. A text with a `state` is checked as a callback is.
    async fn use_pasted_text(&self, text: &str) -> Result<(), Failure> {
        let logins = &self.local.app.stored_logins;
        let result = match PastedResponse::parse(text) {
            Some(PastedResponse::Query(query)) => match logins.receive(self.service, query.expose().as_bytes()).await {
                Ok(handle) if handle == *self.handle => Ok(()),
                Ok(_) => Err(Rejection::Unknown("the pasted text belongs to another sign-in")),
                Err(error) => Err(error),
            },
            Some(PastedResponse::Code(code)) => logins.receive_code(self.handle, &code).await,
            None => Err(Rejection::Unknown("the pasted text has no code")),
        };
        result.map_err(|error| {
            let failure = rejection::failure(&error);
            let advice = "paste the whole address of the last page, or only the code; run the command again";
            match failure {
                Failure::Act(text) => Failure::Act(format!("the pasted text is not used: {text}\n  {advice}")),
                Failure::Broken(_) => failure,
            }
        })
    }
}

/// Reads a line of standard input in a thread, which may outlast the command.
fn read_line() -> oneshot::Receiver<String> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let is_read = std::io::stdin().lock().read_line(&mut line).is_ok();
        if is_read && !line.trim().is_empty() {
            // An error means that the command has ended.
            let _ = sender.send(line);
        }
    });
    receiver
}
