//! Listen addresses, TLS, public URL and trusted proxies. Each reader fails at the wrong key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::config::from_flags::DEFAULT_PORT;
use crate::config::keys;
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Location, Spanned};
use crate::service::public_urls::PublicUrls;

/// The source of the certificate for https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// No TLS.
    None,
    /// The gateway makes a CA and a certificate.
    SelfSigned,
    /// The operator's files.
    Files {
        /// The certificate chain (PEM).
        cert: PathBuf,
        /// The certificate's private key (PEM).
        key: PathBuf,
    },
}

/// Reads `[tls]`.
pub fn certificate(tls: &Section) -> Result<TlsSource, ConfigError> {
    let is_self_signed = tls.is_on(&keys::tls::SELF_SIGNED)?;
    match (is_self_signed, tls.get(&keys::tls::CERT)?, tls.get(&keys::tls::KEY)?) {
        (true, None, None) => Ok(TlsSource::SelfSigned),
        (true, _, _) => {
            let what = format!(
                "{} and {} do not go together",
                tls.key_label(&keys::tls::SELF_SIGNED),
                tls.key_label(&keys::tls::CERT)
            );
            Err(tls.location(&keys::tls::SELF_SIGNED).wrong(what, "keep one of them"))
        }
        (false, Some(cert), Some(key)) => Ok(TlsSource::Files { cert, key }),
        (false, Some(_), None) => Err(tls.missing(
            &keys::tls::KEY,
            "a certificate without its key",
            &format!("add {}", tls.key_label(&keys::tls::KEY)),
        )),
        (false, None, Some(_)) => Err(tls.missing(
            &keys::tls::CERT,
            "a key without its certificate",
            &format!("add {}", tls.key_label(&keys::tls::CERT)),
        )),
        (false, None, None) => Ok(TlsSource::None),
    }
}

/// Reads the public URLs and listen addresses. Refuses plain http beyond loopback by default.
pub fn public_urls(top: &Section, certificate: &TlsSource) -> Result<(PublicUrls, Vec<SocketAddr>), ConfigError> {
    let listen_texts = top.get(&keys::top::LISTEN)?;
    let listen = listen_addresses(&listen_texts)?;
    let has_tls = *certificate != TlsSource::None;
    let allows_http = top.is_on(&keys::top::INSECURE_HTTP)?;
    let proxies = proxies(top)?;
    let public_url = public_url(top)?;
    // A trusted proxy does TLS in front of the gateway.
    let is_proxied = !proxies.is_empty() && public_url.as_ref().is_some_and(|public_url| public_url.url().scheme() == "https");
    let exposed = listen.iter().find(|address| !address.ip().is_loopback());
    if let Some(exposed) = exposed.filter(|_| !has_tls && !is_proxied && !allows_http) {
        let instead = format!(
            "use {} or {}; behind a proxy that does TLS, name it with {} and give an https {}, or say {}",
            if_flags(top, "--tls self-signed", "[tls] self_signed = true"),
            if_flags(top, "--tls-cert and --tls-key", "[tls] cert and key"),
            top.key_label(&keys::top::TRUSTED_PROXIES),
            top.key_label(&keys::top::PUBLIC_URL),
            if_flags(top, "--insecure-http", "`insecure_http = true`"),
        );
        let what = format!("'{exposed}' is reachable from other machines, and there is no TLS: tokens would travel in clear");
        return Err(top.location(&keys::top::LISTEN).wrong(what, instead));
    }
    let public_url = public_url.map_or_else(|| default_url(top, &listen_texts, &listen, has_tls), Ok)?;
    if !public_url.is_secure_or_loopback() && !allows_http {
        return Err(top.location(&keys::top::PUBLIC_URL).wrong(
            format!("'{public_url}' is neither https nor loopback; MCP clients refuse it"),
            "use an https address, or http://localhost for this machine",
        ));
    }
    let hosts = top.get(&keys::top::ALLOWED_HOSTS)?.iter().map(host).collect::<Result<_, _>>()?;
    Ok((PublicUrls::new(public_url, hosts).with_trusted_proxies(proxies), listen))
}

/// Parses the addresses of `listen`; both loopbacks if there are none.
pub fn listen_addresses(texts: &[Spanned<String>]) -> Result<Vec<SocketAddr>, ConfigError> {
    if texts.is_empty() {
        return Ok(loopback_addresses(DEFAULT_PORT));
    }
    let mut listen = Vec::new();
    for text in texts {
        listen.extend(addresses(text)?);
    }
    Ok(listen)
}

/// The warning for a public URL on loopback whose port is none of the listen ports.
pub fn other_port(top: &Section, urls: &PublicUrls, listen: &[SocketAddr]) -> Vec<String> {
    let (port, location) = (urls.port(), top.location(&keys::top::PUBLIC_URL));
    if !urls.is_loopback() || listen.iter().any(|address| address.port() == port) {
        return Vec::new();
    }
    let own = listen.first().map_or(DEFAULT_PORT, SocketAddr::port);
    vec![format!(
        "{location}: clients call port {port}, and the gateway listens on port {own}; use the same port, unless a proxy forwards"
    )]
}

fn if_flags(top: &Section, flag: &str, key: &str) -> String {
    match top.at {
        Location::Flag(_) => flag.to_owned(),
        Location::Line { .. } => key.to_owned(),
    }
}

/// `127.0.0.1` and `::1` with this port.
pub fn loopback_addresses(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// `IP:port`, or `localhost:port` for both loopbacks (Node uses either). A flag takes any name.
fn addresses(text: &Spanned<String>) -> Result<Vec<SocketAddr>, ConfigError> {
    let (host, port) = text.value.rsplit_once(':').unwrap_or((&text.value, ""));
    let bare_host = host.trim_matches(['[', ']']);
    let addresses = match (bare_host, bare_host.parse::<IpAddr>(), port.parse::<u16>(), &text.at) {
        ("localhost", _, Ok(port), _) => loopback_addresses(port),
        (_, Ok(ip), Ok(port), _) if ip.is_ipv4() || host.starts_with('[') => vec![SocketAddr::new(ip, port)],
        (_, Err(_), Ok(port), Location::Flag(_)) => (bare_host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
        _ => Vec::new(),
    };
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    Err(match &text.at {
        Location::Flag(_) => text.wrong(
            format!("'{bare_host}' is neither an address nor a name of this machine"),
            "use localhost, an IP address of this machine, or 0.0.0.0",
        ),
        Location::Line { .. } => text.wrong(
            format!("'{}' is not an address with a port", text.value),
            "write it like 127.0.0.1:8002, [::1]:8002, 0.0.0.0:8002 or localhost:8002",
        ),
    })
}

fn public_url(top: &Section) -> Result<Option<ExactUrl>, ConfigError> {
    let Some(url) = top.get(&keys::top::PUBLIC_URL)? else {
        return Ok(None);
    };
    if url.value.url().query().is_some() {
        return Err(url.wrong(
            format!("'{}' has a query", url.value),
            "write it like https://mcp.example.com or https://example.com/gateway",
        ));
    }
    Ok(Some(url.value.with_normalized_origin()))
}

/// The warning for a public URL that browsers write in another way. The gateway uses theirs.
pub fn respelled(top: &Section, urls: &PublicUrls) -> Result<Vec<String>, ConfigError> {
    let Some(url) = top.get(&keys::top::PUBLIC_URL)? else {
        return Ok(Vec::new());
    };
    let (written, used) = (url.value.as_str().trim_end_matches('/'), urls.public_url());
    if written == used {
        return Ok(Vec::new());
    }
    let what = format!("'{written}' is used as {used}, as browsers write it");
    let instead = "write it so, and register callbacks in this form";
    Ok(vec![url.wrong(what, instead).to_string()])
}

fn default_url(top: &Section, texts: &[Spanned<String>], listen: &[SocketAddr], has_tls: bool) -> Result<ExactUrl, ConfigError> {
    let scheme = if has_tls { "https" } else { "http" };
    let port = listen.first().map_or(DEFAULT_PORT, SocketAddr::port);
    let host = match texts {
        // A host name stays a name.
        [text] => text.value.rsplit_once(':').map_or("localhost", |(host, _)| host),
        _ => "localhost",
    };
    let unknown_address_error = || {
        let what = format!(
            "with {} nobody knows under which address clients reach us",
            listen.first().map_or_else(String::new, ToString::to_string)
        );
        let instead = if_flags(
            top,
            "--public-url https://mcp.example.com",
            "public_url = \"https://mcp.example.com\"",
        );
        top.location(&keys::top::PUBLIC_URL)
            .wrong(what, format!("give it, for instance {instead}"))
    };
    let is_unambiguous = match listen {
        [address] => !address.ip().is_unspecified(),
        addresses => texts.len() == 1 || addresses.iter().all(|address| address.ip().is_loopback()),
    };
    if !is_unambiguous || listen.iter().any(|address| address.ip().is_unspecified()) {
        return Err(unknown_address_error());
    }
    ExactUrl::parse(&format!("{scheme}://{host}:{port}")).map_err(|_| unknown_address_error())
}

fn proxies(top: &Section) -> Result<Vec<Cidr>, ConfigError> {
    let instead = || "write addresses or networks like 10.0.0.7,172.16.0.0/12,fd00::/8".to_owned();
    let parse_network = |text: &Spanned<String>| {
        let network = text.read(|text| {
            text.trim()
                .parse::<Cidr>()
                .map_err(|error| (format!("'{text}': {error}"), instead()))
        })?;
        if network.value.is_any() {
            let what = format!("'{}' is everybody: then every caller says for itself who it is", text.value);
            return Err(text.wrong(what, instead()));
        }
        Ok(network.value)
    };
    top.get(&keys::top::TRUSTED_PROXIES)?.iter().map(parse_network).collect()
}

fn host(spanned: &Spanned<String>) -> Result<String, ConfigError> {
    let text = spanned.value.trim().to_ascii_lowercase();
    let is_host =
        ExactUrl::parse(&format!("http://{text}")).is_ok_and(|address| address.url().path() == "/" && address.url().query().is_none());
    if is_host && !text.ends_with('/') {
        return Ok(text);
    }
    Err(spanned.wrong(
        format!("'{text}' is not a host"),
        "write it like mcp.example.com or mcp.example.com:8443",
    ))
}
