//! Opens the user's browser.

use std::process::{Command, Stdio};

/// Opens a URL that begins with `http`. `BROWSER` names the program; the URL replaces `%s` in it.
///
/// # Errors
/// If the program cannot be started. A program that starts and shows no page is not an error.
pub fn open(url: &str) -> Result<(), String> {
    let configured = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let command_line = match &configured {
        Some(browser) => browser_command(browser, url),
        None => default_command(url),
    };
    let Some((program, arguments)) = command_line.split_first() else {
        return Err("BROWSER names no program".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    // A thread waits for the child, which would otherwise stay a zombie while the user signs in.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The first program of `BROWSER`, with its arguments. No shell is involved.
fn browser_command(browser: &str, url: &str) -> Vec<String> {
    let first = browser.split(':').find(|program| !program.is_empty()).unwrap_or_default();
    let has_placeholder = first.contains("%s");
    let mut words: Vec<String> = first.split_whitespace().map(|word| word.replace("%s", url)).collect();
    if !has_placeholder && !words.is_empty() {
        words.push(url.to_owned());
    }
    words
}

fn default_command(url: &str) -> Vec<String> {
    let words: &[&str] = if cfg!(target_os = "macos") {
        &["open"]
    } else if cfg!(windows) {
        &["rundll32", "url.dll,FileProtocolHandler"]
    } else {
        &["xdg-open"]
    };
    words.iter().copied().chain([url]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::browser_command;

    #[test]
    fn the_browser_variable_names_program_and_place_of_the_url() {
        assert_eq!(browser_command("firefox", "http://a/?x=1&y=2"), ["firefox", "http://a/?x=1&y=2"]);
        assert_eq!(browser_command("w3m -o %s;x:lynx", "http://a"), ["w3m", "-o", "http://a;x"]);
        assert_eq!(browser_command(":lynx", "http://a"), ["lynx", "http://a"]);
        assert!(browser_command("", "http://a").is_empty());
    }
}
