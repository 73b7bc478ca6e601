//! Asks for the password of the person who decides: a program that calls tools does not have it.
//!
//! Only the gateway's own record says who may decide, and with which password. The configuration and the
//! variables of the command come from whoever starts it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use crate::app::approval_admin::ApprovalAdmin;
use crate::base::argon2id;
use crate::base::secret::Secret;
use crate::config::approval_flags::DeciderFlags;

/// The delay after a wrong password.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_secs(1);
/// The longest password that is read, in bytes.
const MAX_PASSWORD_BYTES: u64 = 4_096;

/// A person who proved to be this user.
pub(super) struct SignedIn {
    /// The user.
    pub(super) name: String,
    /// Whether the user decides about calls of callers that are no users.
    pub(super) is_approver: bool,
}

/// Asks for the password, and checks it.
///
/// # Errors
/// If there is no such user, the password is wrong, or the store fails.
pub(super) async fn sign_in(admin: &ApprovalAdmin, flags: &DeciderFlags) -> Result<SignedIn, String> {
    let deciders = admin.deciders().await.map_err(|error| error.to_string())?;
    let deciders = deciders.ok_or("the gateway has not stored who may decide\n  start it, and try again")?;
    let user = match (&flags.user, deciders.users()) {
        (Some(name), users) => users.iter().find(|user| user.name == *name),
        (None, [only]) => Some(only),
        (None, []) => {
            let instead = "list users in [login.password] of the gateway's configuration";
            return Err(format!("no user of the gateway has a password\n  {instead}"));
        }
        (None, _) => return Err("there are several users\n  say who decides with --user NAME".to_owned()),
    };
    let password = read_password(flags.password_stdin, user.map(|user| user.name.as_str()))?;
    let wrong = || "user name or password is wrong; nothing was decided".to_owned();
    let user = user.ok_or_else(wrong)?;
    if !argon2id::verify(user.hash.expose(), &password) {
        tokio::time::sleep(WRONG_PASSWORD_DELAY).await;
        return Err(wrong());
    }
    Ok(SignedIn {
        name: user.name.clone(),
        is_approver: user.is_approver,
    })
}

fn read_password(from_stdin: bool, name: Option<&str>) -> Result<Secret, String> {
    let cannot = |error: io::Error| format!("the password cannot be read: {error}");
    let mut text = String::new();
    if from_stdin {
        io::stdin().take(MAX_PASSWORD_BYTES).read_to_string(&mut text).map_err(cannot)?;
    } else if io::stdin().is_terminal() {
        let mut prompt = io::stderr();
        let _ = write!(prompt, "Password of {}: ", name.unwrap_or("the user"));
        let _ = prompt.flush();
        let echo = EchoOff::new()?;
        let read = io::stdin().read_line(&mut text);
        drop(echo);
        let _ = writeln!(prompt);
        read.map_err(cannot)?;
    } else {
        return Err("a person must decide, and there is no terminal to ask for the password\n  use --password-stdin".to_owned());
    }
    let password = Secret::from(text.trim_end_matches(['\r', '\n']));
    Ok(password)
}

/// The terminal shows nothing of what is typed, until dropped.
struct EchoOff(rustix::termios::Termios);

impl EchoOff {
    fn new() -> Result<Self, String> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let cannot = |error: rustix::io::Errno| format!("the terminal cannot hide the password: {error}\n  use --password-stdin");
        let before = tcgetattr(io::stdin()).map_err(cannot)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).map_err(cannot)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}
