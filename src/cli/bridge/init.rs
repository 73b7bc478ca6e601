//! `init`: creates what is missing, and changes nothing that exists.

use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;

use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::grants::print_json;
use crate::cli::storage::Storage;
use crate::cli::terminal::print_stdout;
use crate::cli::{config_file, data_dir, local_keys};
use crate::config::edit;
use crate::config::validate::Validated;

/// How often a command tries to lock the data directory, and the pause between.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What `init` created, and the generated password.
struct InitResult {
    file: bool,
    data_dir: bool,
    keys: bool,
    password: Option<Secret>,
}

/// Runs `init`. `username` is the user of the generated password.
///
/// # Errors
/// If a file or directory cannot be created, or an existing configuration file is wrong.
pub fn run(username: Option<&str>, context: &CommandContext) -> Result<(), Failure> {
    let user = username.unwrap_or("gateway");
    let text = template(context);
    let file = config_file::create(&context.config, &text).map_err(Failure::Broken)?;
    let validated = context.load()?;
    let (dir, storage) = (&validated.start.data_dir, Storage::of(&validated));
    let (had_dir, had_keys) = (dir.exists(), storage.load_keys()?.is_some());
    create_keys(&validated)?;
    for kind in local_keys::KINDS {
        local_keys::read_or_create(dir, kind)?;
    }
    let password = if validated.creates_user {
        data_dir::create_password(dir, user)?
    } else {
        None
    };
    let created = InitResult {
        file,
        data_dir: !had_dir,
        keys: !had_keys,
        password,
    };
    report(context, &validated, user, &created)
}

/// Creates the data directory and the keys, if they are missing.
///
/// # Errors
/// If they cannot be created, or the store needs keys of the operator.
pub fn create_keys(validated: &Validated) -> Result<(), Failure> {
    let (dir, location) = (&validated.start.data_dir, &validated.locations.storage.data_dir);
    data_dir::prepare(dir, location)?;
    let storage = Storage::of(validated);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Broken(error.to_string()))?;
    // Without the lock, two commands that run at the same time would create two key rings. A gateway
    // that runs has its keys.
    for attempt in 1..=LOCK_ATTEMPTS {
        if storage.load_keys()?.is_some() {
            break;
        }
        match data_dir::lock(dir, location) {
            Ok(_lock) => drop(storage.load_or_create_keys(&Clock::System, &runtime)?),
            Err(error) if attempt == LOCK_ATTEMPTS => return Err(Failure::Act(error)),
            Err(_) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Ok(())
}

fn report(context: &CommandContext, validated: &Validated, user: &str, created: &InitResult) -> Result<(), Failure> {
    let InitResult {
        file,
        data_dir: dir,
        keys,
        password,
    } = created;
    let (config, data) = (context.config.display(), validated.start.data_dir.display());
    if context.json {
        let password = password.as_ref().map(Secret::expose);
        let value = json!({
            "config": config.to_string(), "config_created": file, "data_dir": data.to_string(), "data_dir_created": dir,
            "keys_created": keys, "user": password.is_some().then_some(user), "password": password,
        });
        return Ok(print_json(&value)?);
    }
    let outcome = |created: bool| if created { "created" } else { "exists, not changed" };
    let password_lines = match password {
        Some(password) => format!(
            "user           {user}\npassword       {}\n               It is shown only now: OAuth clients ask for it when you connect them.",
            password.expose()
        ),
        None => "password       exists, not changed".to_owned(),
    };
    let out = format!(
        "configuration  {config}: {}\ndata           {data}: {}\nkeys           {}\n{password_lines}\n\n\
         Next: mcp-oauth-gateway add NAME URL, then mcp-oauth-gateway start\n",
        outcome(*file),
        outcome(*dir),
        outcome(*keys),
    );
    Ok(print_stdout(&out)?)
}

/// The text of a new configuration file, with the data directory of the flags.
fn template(context: &CommandContext) -> String {
    let data_line = match &context.data_dir {
        Some(dir) if Some(dir.as_path()) == context.config.parent() => "data_dir = \".\"\n".to_owned(),
        Some(dir) => {
            let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            format!("data_dir = {}\n", edit::toml_string(&absolute.to_string_lossy()))
        }
        None => "# data_dir = \"~/.local/share/mcp-oauth-gateway\"\n".to_owned(),
    };
    format!(
        "# The MCP OAuth gateway of this machine. The commands `add` and `remove` edit the services below;\n\
         # comments and order stay. All keys: docs/configuration.md.\n\
         \n\
         # The addresses to listen on, and the address for clients:\n\
         # listen = \"localhost:8002\"\n\
         # public_url = \"http://localhost:8002\"\n\
         \n\
         # Keys and stored credentials, sealed:\n\
         {data_line}\
         \n\
         [store]\n\
         kind = \"sqlite\"\n"
    )
}
