//! The files of the bridge: what `init` creates, and where they are.

use std::fs;

use crate::machine::{Machine, mode};

#[test]
fn init_creates_what_is_missing_and_the_second_run_changes_nothing() {
    let machine = Machine::new();
    machine
        .run(&["list"])
        .failed(1, &["there is no configuration file", "mcp-oauth-gateway init"]);
    machine.run(&["start"]).failed(1, &["mcp-oauth-gateway init"]);
    let first = machine.run(&["init", "--json"]).ok().json().remove(0);
    let password = first["password"].as_str().unwrap();
    assert!(password.len() >= 20 && first["config_created"] == true && first["keys_created"] == true);
    for (path, expected) in [
        (machine.config(), 0o600),
        (machine.config().parent().unwrap().to_owned(), 0o700),
        (machine.data(), 0o700),
        (machine.data().join("keys.json"), 0o600),
        (machine.data().join("password-hash"), 0o600),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    let snapshot = || {
        let names = ["keys.json", "password-hash"].map(|name| fs::read(machine.data().join(name)).unwrap());
        (machine.text(), names)
    };
    let before = snapshot();
    let second = machine.run(&["init"]).ok();
    assert_eq!(second.out.matches("exists, not changed").count(), 4, "{second:?}");
    assert!(!second.out.contains(password) && snapshot() == before);
    let list = machine.run(&["list"]).ok();
    assert!(list.out.starts_with("NAME") && list.out.lines().count() == 1, "{list:?}");
}

#[test]
fn one_directory_can_hold_everything_and_its_flag_stands_anywhere() {
    let machine = Machine::new();
    let dir = machine.home().join("all");
    let dir_text = dir.to_str().unwrap();
    machine.run(&["--config-dir", dir_text, "init"]).ok();
    assert!(dir.join("gateway.toml").is_file() && dir.join("keys.json").is_file() && !machine.data().exists());
    machine.run(&["list", "--json", "--config-dir", dir_text]).ok();
    // The file names its directory as that of the data.
    let file = dir.join("gateway.toml");
    let again = machine.run(&["init", "--json", "--config", file.to_str().unwrap()]).ok().json();
    assert_eq!(again[0]["keys_created"], false, "{again:?}");
    let away = machine.home().join("away");
    machine.run(&["--data-dir", away.to_str().unwrap(), "init"]).ok();
    assert!(machine.text().contains("away\""));
    let again = machine.run(&["init", "--json"]).ok().json();
    assert_eq!(
        (&again[0]["keys_created"], &again[0]["data_dir"]),
        (&false.into(), &away.to_str().unwrap().into())
    );
}

#[test]
fn a_wrong_file_and_a_store_that_forgets_are_named_and_not_changed() {
    let machine = Machine::initialised();
    let text = machine.text();
    fs::write(machine.config(), format!("{text}kindd = 1\n")).unwrap();
    let failed = machine.run(&["list", "--json"]).failed(1, &["kindd", "did you mean `kind`?"]);
    assert_eq!(failed.json()[0]["exit"], 1, "{failed:?}");
    fs::write(machine.config(), text.replace("\"sqlite\"", "\"memory\"")).unwrap();
    machine.run(&["list"]).failed(1, &["store.kind", "would be lost", "sqlite"]);
    machine.run(&["init"]).failed(1, &["would be lost"]);
}
