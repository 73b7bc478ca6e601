//! TLS to Vault: the CA and the host name of the certificate must match.

use super::*;

fn over(server: &Server, host: &str, ca: Option<std::path::PathBuf>) -> VaultConfig {
    VaultConfig {
        url: ExactUrl::parse(&server.url_as(host)).unwrap(),
        ca,
        ..at(server, token(ROOT))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_tls_requires_a_certificate_by_the_given_ca_and_name() {
    let server = Server::with_tls(&["127.0.0.1", "localhost"]);
    for host in ["127.0.0.1", "localhost"] {
        let bench = on(over(&server, host, Some(server.ca())));
        let handle = bench.insert(2000).await;
        assert!(opened_by(&bench.store, &handle, &1).await);
        assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Open(Open { until: 2000, by: 1 }))));
    }
    let asked = || server.state().asked.len();
    let before = asked();
    // The system roots do not include this CA.
    let said = refused(over(&server, "127.0.0.1", None));
    assert!(said.contains("certificate") && said.contains("[store]: ca = "), "{said}");
    // Another CA is refused.
    let other = Server::with_tls(&["vault.example"]);
    let said = refused(over(&server, "127.0.0.1", Some(other.ca())));
    assert!(said.contains("certificate") && said.contains("`ca`"), "{said}");
    // The right CA with another host name is refused.
    let said = refused(over(&other, "127.0.0.1", Some(other.ca())));
    assert!(said.contains("certificate") && said.contains("`url`"), "{said}");
    // A missing CA file, and a file that is no certificate.
    let said = refused(over(&server, "127.0.0.1", Some("no-such-file.pem".into())));
    assert!(said.contains("no-such-file.pem") && said.contains("`ca`"), "{said}");
    let said = refused(over(
        &server,
        "127.0.0.1",
        Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into()),
    ));
    assert!(said.contains("no PEM certificate") && said.contains("`ca`"), "{said}");
    // Plain HTTP to a TLS server, and TLS to a plain HTTP server.
    let plain = VaultConfig {
        url: ExactUrl::parse(&server.url().replace("https", "http")).unwrap(),
        ..at(&server, token(ROOT))
    };
    assert!(refused(plain).contains("`url`"));
    let plain = Server::start();
    let tls = VaultConfig {
        url: ExactUrl::parse(&plain.url().replace("http", "https")).unwrap(),
        ..at(&plain, token(ROOT))
    };
    let said = refused(tls);
    assert!(said.contains("TLS failed") && said.contains("begin it with http:"), "{said}");
    assert_eq!(
        (asked(), other.state().asked.len(), plain.state().asked.len()),
        (before, 0, 0),
        "no token went anywhere"
    );
}
