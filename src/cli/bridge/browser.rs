//! Opens the user's browser.

use std::process::{Command, Stdio};

/// Opens a URL that begins with `http`. `BROWSER` names the program; `%s` in it stands for the URL.
///
/// # Errors
/// If the program cannot be started. Whether it shows the page is not known.
pub fn open(url: &str) -> Result<(), String> {
    let configured = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let words = match &configured {
        Some(browser) => words(browser, url),
        None => default_words(url),
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err("BROWSER names no program".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    // Waited for in a thread, so that no zombie is left while the command waits for the user.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The first program of `BROWSER`, with its arguments. No shell is involved.
fn words(browser: &str, url: &str) -> Vec<String> {
    let first = browser.split(':').find(|program| !program.is_empty()).unwrap_or_default();
    let has_place = first.contains("%s");
    let mut words: Vec<String> = first.split_whitespace().map(|word| word.replace("%s", url)).collect();
    if !has_place && !words.is_empty() {
        words.push(url.to_owned());
    }
    words
}

fn default_words(url: &str) -> Vec<String> {
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
    use super::words;

    #[test]
    fn the_browser_variable_names_program_and_place_of_the_url() {
        assert_eq!(words("firefox", "http://a/?x=1&y=2"), ["firefox", "http://a/?x=1&y=2"]);
        assert_eq!(words("w3m -o %s;x:lynx", "http://a"), ["w3m", "-o", "http://a;x"]);
        assert_eq!(words(":lynx", "http://a"), ["lynx", "http://a"]);
        assert!(words("", "http://a").is_empty());
    }
}
