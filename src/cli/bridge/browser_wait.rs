//! Waits for the code of a sign-in: from the callback, or pasted into the terminal.

use std::io::BufRead as _;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::app::error::Rejection;
use crate::app::stored_logins::{LoginHandle, LoginProgress};
use crate::cli::bridge::callback::Receiver;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local::Local;
use crate::cli::bridge::pasted::Pasted;
use crate::cli::bridge::rejection;
use crate::cli::table::printable;

/// How often the command looks whether the callback arrived.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A command that waits for the browser.
pub struct BrowserWait<'a> {
    /// The components.
    pub local: &'a Local,
    /// The name of the service.
    pub service: &'a str,
    /// The sign-in.
    pub handle: &'a LoginHandle,
    /// Who receives the callback.
    pub receiver: &'a mut Receiver,
    /// Whether the user may paste the answer.
    pub reads_input: bool,
}

impl BrowserWait<'_> {
    /// Waits until the code is in the record.
    ///
    /// # Errors
    /// If the user or the upstream refuses, the pasted text is wrong, or the port is occupied.
    pub async fn until_code(&mut self) -> Result<(), Failure> {
        let mut line = self.reads_input.then(read_line);
        loop {
            match self.local.app.stored_logins.progress(self.handle).await {
                Ok(LoginProgress::CodeReceived) => return Ok(()),
                Ok(LoginProgress::Failed(reason)) => {
                    return Err(Failure::Act(format!("{}\n  run the command again", printable(&reason))));
                }
                Ok(LoginProgress::Waiting) => {}
                Ok(LoginProgress::Done | LoginProgress::Gone) => {
                    return Err(Failure::Act("this sign-in has ended; run the command again".to_owned()));
                }
                Err(error) => return Err(Failure::Broken(error.to_string())),
            }
            let received = self.receiver.ensure(self.local);
            // Whoever pastes the answer needs no listener.
            if !self.reads_input {
                received?;
            }
            match &mut line {
                Some(input) => match tokio::time::timeout(LOOK_INTERVAL, input).await {
                    Ok(Ok(text)) => {
                        line = None;
                        self.take(&text).await?;
                    }
                    // The end of the input: the callback can still arrive.
                    Ok(Err(_)) => line = None,
                    Err(_) => {}
                },
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Takes a pasted text. What has a `state` is checked as a callback is.
    async fn take(&self, text: &str) -> Result<(), Failure> {
        let logins = &self.local.app.stored_logins;
        let result = match Pasted::parse(text) {
            Some(Pasted::Query(query)) => match logins.receive(self.service, query.expose().as_bytes()).await {
                Ok(handle) if handle == *self.handle => Ok(()),
                Ok(_) => Err(Rejection::Unknown("the pasted text belongs to another sign-in")),
                Err(error) => Err(error),
            },
            Some(Pasted::Code(code)) => logins.receive_code(self.handle, &code).await,
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
            // The command may have ended.
            let _ = sender.send(line);
        }
    });
    receiver
}
