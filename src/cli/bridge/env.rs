//! `env` and `local-key`: how programs of this machine call the gateway.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::grants::print_json;
use crate::cli::terminal::print_stdout;
use crate::cli::{data_dir, local_keys};
use crate::config::validate::Validated;
use crate::token::local_key::LocalKeyKind;

/// Runs `env`: shell lines with the base URLs of the adapters. The adapter key is in the path, because
/// these programs have no setting for another credential.
///
/// # Errors
/// If the gateway is not for this machine alone, or its keys cannot be read.
pub fn env(context: &CommandContext) -> Result<(), Failure> {
    let validated = context.load()?;
    let dir = dir(&validated)?;
    let key = local_keys::read_or_create(&dir, LocalKeyKind::Adapter)?;
    let base = format!("{}/k/{}", validated.start.urls.public_url(), key.expose());
    let (openai, anthropic) = (format!("{base}/openai/v1"), format!("{base}/anthropic"));
    if context.json {
        return Ok(print_json(&json!({ "OPENAI_BASE_URL": openai, "ANTHROPIC_BASE_URL": anthropic }))?);
    }
    let lines = format!(
        "export OPENAI_BASE_URL={}\nexport ANTHROPIC_BASE_URL={}\n",
        shell_quote(&openai),
        shell_quote(&anthropic)
    );
    Ok(print_stdout(&lines)?)
}

/// Runs `local-key rotate`.
///
/// # Errors
/// If the gateway is not for this machine alone, or a file cannot be written.
pub fn rotate(context: &CommandContext) -> Result<(), Failure> {
    let validated = context.load()?;
    let dir = dir(&validated)?;
    for kind in local_keys::KINDS {
        local_keys::rotate(&dir, kind).map_err(Failure::Broken)?;
    }
    let paths: Vec<String> = local_keys::KINDS
        .map(|kind| local_keys::path(&dir, kind).display().to_string())
        .to_vec();
    let running = data_dir::is_locked(&dir);
    if context.json {
        return Ok(print_json(&json!({ "rotated": paths, "gateway_runs": running }))?);
    }
    let note = if running {
        "\nThe running gateway refuses the old keys within seconds. Run `env` again in each shell.\n"
    } else {
        "\n"
    };
    Ok(print_stdout(&format!("new keys   {}{note}", paths.join(", ")))?)
}

/// The data directory of a gateway that accepts local keys.
fn dir(validated: &Validated) -> Result<PathBuf, Failure> {
    let urls = &validated.start.urls;
    if !urls.is_loopback() {
        return Err(Failure::Act(format!(
            "the local keys work only where public_url is an address of this machine, and it is {}\n  use an API key instead: mcp-oauth-gateway api-keys add SERVICE",
            urls.public_url()
        )));
    }
    let dir = &validated.start.data_dir;
    data_dir::prepare(dir, &validated.locations.storage.data_dir)?;
    Ok(dir.clone())
}

/// Quotes a text as one word of a POSIX shell.
fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_quoted_word_cannot_end_early() {
        assert_eq!(super::shell_quote("http://a/$(x)'; y"), r"'http://a/$(x)'\''; y'");
    }
}
