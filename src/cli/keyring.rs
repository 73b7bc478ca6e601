//! `keyring`: lists and rotates the keys that seal tokens and records.

use zeroize::Zeroizing;

use crate::base::keyring::{self, KeyRing};
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::cli::storage::Storage;
use crate::cli::terminal::print_stdout;
use crate::cli::{data_dir, key_file};
use crate::config::flags::Keyring;

/// Runs `keyring`. An error is a text for the operator.
pub(super) fn run(action: Keyring, storage: &Storage) -> Result<(), String> {
    match action {
        Keyring::List => list(&storage.load_keys()?.ok_or_else(|| absent(storage))?),
        Keyring::Rotate => rotate(storage),
        Keyring::Passphrase => set_passphrase(storage),
    }
}

fn list(ring: &KeyRing) -> Result<(), String> {
    let now = Clock::System.now();
    for (name, created, seals_from) in ring.list() {
        let state = if seals_from <= now {
            "opens and may seal".to_owned()
        } else {
            format!("opens; seals in {} s", seals_from.seconds_since(now))
        };
        print_stdout(&format!("{name}  made {}  {state}\n", created.to_date()))?;
    }
    Ok(())
}

fn rotate(storage: &Storage) -> Result<(), String> {
    if !Storage::has_key_file() {
        let instead = "put the keys into a key file that every instance gets (--key-file, or [keys] file), and unset the variable";
        return Err(storage.keys_at().wrong("it is one key, and cannot rotate", instead).to_string());
    }
    storage.load_keys()?.ok_or_else(|| absent(storage))?;
    let path = storage.key_file();
    let new_ring = key_file::read(&path)
        .and_then(|text| keyring::rotate(text.expose(), Clock::System.now()).map_err(|error| format!("{}: {error}", path.display())))?;
    key_file::write(&path, &new_ring)?;
    print_stdout(&format!(
        "a new key was added to {}; it seals in {} s, and nobody is signed out\n",
        path.display(),
        keyring::ACTIVATION_DELAY_SECONDS
    ))
}

/// Locks the key file by a passphrase from standard input. An empty line removes the lock.
fn set_passphrase(storage: &Storage) -> Result<(), String> {
    if !Storage::has_key_file() {
        let instead = "put the key into a key file (--key-file, or [keys] file), and unset the variable";
        return Err(storage
            .keys_at()
            .wrong("a passphrase locks a file, and not a variable", instead)
            .to_string());
    }
    storage.load_keys()?.ok_or_else(|| absent(storage))?;
    let path = storage.key_file();
    let text = key_file::read(&path)?;
    let mut line = Zeroizing::new(String::new());
    let to_error = |error: std::io::Error| format!("the passphrase cannot be read from standard input: {error}");
    std::io::stdin().read_line(&mut line).map_err(to_error)?;
    let passphrase = Secret::from(line.trim_end_matches(['\r', '\n']));
    if passphrase.is_empty() {
        data_dir::write_secret(&path, &text)?;
        return print_stdout(&format!(
            "{} is not locked any more; unset MCP_GATEWAY_PASSPHRASE\n",
            path.display()
        ));
    }
    key_file::write_locked(&path, &text, &passphrase)?;
    let path = path.display();
    print_stdout(&format!(
        "{path} is locked; set MCP_GATEWAY_PASSPHRASE to the new passphrase for the gateway and its commands\n"
    ))
}

fn absent(storage: &Storage) -> String {
    let what = format!("there is no key file {}", storage.key_file().display());
    let instead = "name the directory or the key file of the gateway, or start it once: it makes one";
    storage.keys_at().wrong(what, instead).to_string()
}
