//! Asks for the password of the person who decides: a program that calls tools does not have it.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::base::argon2id;
use crate::base::secret::Secret;
use crate::cli::data_dir;
use crate::cli::storage::Storage;
use crate::config::approval_flags::DeciderFlags;
use crate::service::password_user::{LazyPasswordHash, PasswordUser};

/// The name of the user whose password is in the data directory, unless another one is given.
const DEFAULT_USER: &str = "gateway";
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
/// If there is no such user, or the password is wrong.
pub(super) async fn sign_in(storage: &Storage, flags: &DeciderFlags) -> Result<SignedIn, String> {
    let users = users(storage, flags.user.as_deref())?;
    let user = match (&flags.user, users.as_slice()) {
        (Some(name), users) => users.iter().find(|user| user.name == *name),
        (None, [only]) => Some(only),
        (None, _) => return Err("there are several users\n  say who decides with --user NAME".to_owned()),
    };
    let password = read_password(flags.password_stdin, user.map(|user| user.name.as_str()))?;
    let wrong = || "user name or password is wrong; nothing was decided".to_owned();
    let user = user.ok_or_else(wrong)?;
    let hash = user.hash.get(&Arc::new(Semaphore::new(1))).await.ok_or_else(wrong)?;
    if !argon2id::verify(hash, &password) {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        return Err(wrong());
    }
    let approvers = storage.approvers.as_slice();
    Ok(SignedIn {
        name: user.name.clone(),
        is_approver: match approvers {
            [] => users.len() == 1,
            approvers => approvers.contains(&user.name),
        },
    })
}

/// The users of the configuration, or the one of the data directory.
fn users(storage: &Storage, name: Option<&str>) -> Result<Vec<PasswordUser>, String> {
    if !storage.users.is_empty() {
        return Ok(storage.users.clone());
    }
    let name = name.unwrap_or(DEFAULT_USER);
    let hash = match (data_dir::configured_password(name)?, data_dir::stored_hash(&storage.data_dir)?) {
        (Some(password), _) => LazyPasswordHash::from_fixed_password(name, password),
        (None, Some(hash)) => LazyPasswordHash::from_hash(hash.expose().trim().to_owned()),
        (None, None) => {
            return Err("the gateway has no user with a password yet\n  start it once, or list users in [login.password]".to_owned());
        }
    };
    let name = name.to_owned();
    Ok(vec![PasswordUser { name, hash }])
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
