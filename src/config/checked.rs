//! Flags become checked types here, or an error that says what was wrong, where, and what to write instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use crate::base::range::Cidr;
use crate::base::secret::Secret;
use crate::base::url::Address;
use crate::config::flags::{Serve, Tls, TokenMode};
use crate::config::kept::{self, Kept};
use crate::gateway::site::Site;
use crate::oauth::scope::Scopes;
use crate::service::oauth::Authorization;
use crate::service::{Access, Login, Service, Upstream};
use crate::token::half::{Mode, ServiceMark};
use crate::token::lifetime::Ttl;

/// What is wrong, at which flag, and what to do instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.flag, self.what, self.instead)
    }
}

impl std::error::Error for Wrong {}

fn wrong(flag: &'static str, what: impl Into<String>, instead: impl Into<String>) -> Wrong {
    Wrong {
        flag,
        what: what.into(),
        instead: instead.into(),
    }
}

/// The flags, checked.
#[derive(Debug)]
pub struct Checked {
    /// Who we are.
    pub site: Site,
    /// What stands behind us.
    pub services: Vec<Service>,
    /// Origins of web pages that may call the MCP endpoints.
    pub cors_origins: Vec<String>,
    /// Where to listen. A missing `::1` is tolerated when 127.0.0.1 is there.
    pub listen: Vec<SocketAddr>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where records are kept.
    pub kept: Kept,
}

/// Checks the flags. `data_home` is where data directories are by custom.
pub fn check(flags: &Serve, data_home: Option<PathBuf>) -> Result<Checked, Wrong> {
    let listen = listen(flags)?;
    let site = site(flags, &listen)?;
    let service = service(flags)?;
    let instead = "say where with --data-dir DIR";
    let data_dir = flags
        .data_dir
        .clone()
        .or(data_home)
        .ok_or_else(|| wrong("--data-dir", "there is no home directory to keep data in", instead))?;
    Ok(Checked {
        site,
        services: vec![service],
        cors_origins: flags.cors_origins.clone(),
        listen,
        data_dir,
        kept: kept::kept(flags)?,
    })
}

fn listen(flags: &Serve) -> Result<Vec<SocketAddr>, Wrong> {
    let port = flags.port;
    if flags.host == "localhost" {
        // Node resolves `localhost` to either.
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let host = flags.host.trim_matches(['[', ']']);
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
    };
    if found.is_empty() {
        return Err(wrong(
            "--host",
            format!("'{}' is neither an address nor a name of this machine", flags.host),
            "use localhost, an IP address of this machine, or 0.0.0.0",
        ));
    }
    let is_public = found.iter().any(|address| !address.ip().is_loopback());
    let has_tls = flags.tls.is_some() || flags.tls_cert.is_some();
    let public = flags.public_url.as_deref().map(Address::parse);
    // Then TLS is done in front of us, by somebody who was named.
    let is_proxied = !flags.trusted_proxies.is_empty() && matches!(public, Some(Ok(url)) if url.url().scheme() == "https");
    if is_public && !has_tls && !is_proxied && !flags.insecure_http {
        return Err(wrong(
            "--host",
            format!(
                "'{}' is reachable from other machines, and there is no TLS: tokens would travel in clear",
                flags.host
            ),
            "use --tls self-signed or --tls-cert and --tls-key; behind a proxy that does TLS, name it with --trusted-proxies and give an https --public-url, or say --insecure-http",
        ));
    }
    Ok(found)
}

fn site(flags: &Serve, listen: &[SocketAddr]) -> Result<Site, Wrong> {
    let scheme = if flags.tls == Some(Tls::SelfSigned) || flags.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let unspecified = listen.iter().any(|address| address.ip().is_unspecified());
    let text = match &flags.public_url {
        Some(text) => text.clone(),
        None if unspecified => {
            return Err(wrong(
                "--public-url",
                format!("with --host {} nobody knows under which address clients reach us", flags.host),
                "give it, for instance --public-url https://mcp.example.com",
            ));
        }
        None if flags.host.contains(':') && !flags.host.starts_with('[') => format!("{scheme}://[{}]:{}", flags.host, flags.port),
        None => format!("{scheme}://{}:{}", flags.host, flags.port),
    };
    let address =
        Address::parse(&text).map_err(|why| wrong("--public-url", format!("'{text}' {why}"), "write it like https://mcp.example.com"))?;
    if address.url().query().is_some() {
        return Err(wrong(
            "--public-url",
            format!("'{text}' has a query"),
            "write it like https://mcp.example.com or https://example.com/gateway",
        ));
    }
    if !address.is_secure_or_loopback() && !flags.insecure_http {
        return Err(wrong(
            "--public-url",
            format!("'{text}' is neither https nor loopback; MCP clients refuse it"),
            "use an https address, or http://localhost for this machine",
        ));
    }
    Ok(Site::new(address, flags.allowed_hosts.iter().map(|h| h.to_ascii_lowercase()).collect()).behind(trusted_proxies(flags)?))
}

fn trusted_proxies(flags: &Serve) -> Result<Vec<Cidr>, Wrong> {
    let instead = "write addresses or networks like 10.0.0.7,172.16.0.0/12,fd00::/8";
    let network = |text: &String| -> Result<Cidr, Wrong> {
        let network: Cidr = text
            .trim()
            .parse()
            .map_err(|why| wrong("--trusted-proxies", format!("'{text}': {why}"), instead))?;
        if network.is_everybody() {
            let what = format!("'{text}' is everybody: then every caller says for itself who it is");
            return Err(wrong("--trusted-proxies", what, instead));
        }
        Ok(network)
    };
    flags.trusted_proxies.iter().map(network).collect()
}

fn service(flags: &Serve) -> Result<Service, Wrong> {
    let missing = || {
        wrong(
            "--upstream-rs",
            "the upstream MCP server is missing",
            "for instance --upstream-rs https://api.githubcopilot.com/mcp/",
        )
    };
    let mcp = url(
        "--upstream-rs",
        flags.upstream_rs.as_deref().filter(|text| !text.is_empty()).ok_or_else(missing)?,
    )?;
    let optional = |flag, text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(|text| url(flag, text)).transpose();
    let authorization = Authorization {
        issuer: optional("--upstream-as", &flags.upstream_as)?,
        client_id: flags.upstream_client_id.clone().filter(|id| !id.is_empty()),
        client_secret: flags.upstream_client_secret.as_deref().filter(|s| !s.is_empty()).map(Secret::from),
        authorization_endpoint: optional("--upstream-authorize-endpoint", &flags.upstream_authorize_endpoint)?,
        token_endpoint: optional("--upstream-token-endpoint", &flags.upstream_token_endpoint)?,
        ..Authorization::default()
    };
    together(&authorization)?;
    let mode = match flags.token_mode {
        TokenMode::Sealed => Mode::Sealed,
        TokenMode::Plain if flags.allow_token_passthrough => Mode::Plain,
        TokenMode::Plain => {
            return Err(wrong(
                "--token-mode",
                "plain lets the client read the upstream's token, which MCP forbids",
                "use sealed, or add --allow-token-passthrough if you know why you need it",
            ));
        }
    };
    for (flag, seconds) in [("--access-ttl", flags.access_ttl), ("--refresh-ttl", flags.refresh_ttl)] {
        if !(10..=31_536_000).contains(&seconds) {
            return Err(wrong(
                flag,
                format!("{seconds} seconds is out of range"),
                "use 10 seconds to 31536000 (a year)",
            ));
        }
    }
    Ok(Service {
        name: "default".to_owned(),
        mark: ServiceMark::of("default"),
        is_default: true,
        mcp,
        access: Access::OAuth,
        login: Login::Password,
        upstream: Upstream::OAuth(Box::new(authorization)),
        mode,
        ttl: Ttl {
            access: flags.access_ttl,
            refresh: flags.refresh_ttl,
            ..Ttl::default()
        },
        refresh_grace: flags.refresh_grace,
        scopes: Scopes::parse(flags.upstream_scopes.as_deref().unwrap_or("")),
        optional_scopes: Scopes::default(),
        required_scopes: Scopes::default(),
        forward_headers: Vec::new(),
    })
}

fn url(flag: &'static str, text: &str) -> Result<Address, Wrong> {
    let example = "write it like https://mcp.example.com/mcp";
    let address = Address::parse(text).map_err(|why| wrong(flag, format!("'{text}' {why}"), example))?;
    match address.url().scheme() {
        "http" | "https" if address.url().host().is_some() => Ok(address),
        _ => Err(wrong(flag, format!("'{text}' is not an http or https URL"), example)),
    }
}

fn together(given: &Authorization) -> Result<(), Wrong> {
    if given.client_secret.is_some() && given.client_id.is_none() {
        return Err(wrong(
            "--upstream-client-secret",
            "a client secret without a client id",
            "add --upstream-client-id",
        ));
    }
    match (&given.authorization_endpoint, &given.token_endpoint) {
        (Some(_), None) => Err(wrong(
            "--upstream-token-endpoint",
            "--upstream-authorize-endpoint is given without it",
            "give both endpoints, or neither and let them be discovered",
        )),
        (None, Some(_)) => Err(wrong(
            "--upstream-authorize-endpoint",
            "--upstream-token-endpoint is given without it",
            "give both endpoints, or neither and let them be discovered",
        )),
        (Some(_), Some(_)) if given.client_id.is_none() => Err(wrong(
            "--upstream-client-id",
            "with both endpoints given there is nowhere to register",
            "give the client id that the upstream knows us by",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::flags::Command;

    fn checked(args: &str) -> Result<Checked, Wrong> {
        let words = std::iter::once("mcp-oauth-gateway").chain(args.split_whitespace());
        check(&Command::try_parse_from(words).unwrap().serve, Some(PathBuf::from("/data")))
    }

    #[test]
    fn the_upstream_alone_is_enough() {
        let checked = checked("--upstream-rs https://api.githubcopilot.com/mcp/").unwrap();
        assert_eq!(checked.site.public_url(), "http://localhost:8002");
        assert_eq!(checked.listen.len(), 2);
        assert_eq!(checked.services[0].mcp.as_str(), "https://api.githubcopilot.com/mcp/");
    }

    #[test]
    fn behind_a_proxy_that_is_named_a_public_bind_needs_no_tls_of_its_own() {
        let proxied = "--upstream-rs https://x/ --host 0.0.0.0 --public-url https://a.example --trusted-proxies";
        let site = checked(&format!("{proxied} 10.0.0.7,fd00::/8")).unwrap().site;
        let networks: Vec<String> = site.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.7/32", "fd00::/8"]);
        assert_eq!(site.public_url(), "https://a.example");
    }

    #[test]
    fn each_mistake_is_named_at_its_flag() {
        for (args, flag) in [
            ("", "--upstream-rs"),
            ("--upstream-rs nonsense", "--upstream-rs"),
            ("--upstream-rs ftp://x/y", "--upstream-rs"),
            ("--upstream-rs https://x/ --host 0.0.0.0", "--host"),
            ("--upstream-rs https://x/ --host 0.0.0.0 --insecure-http", "--public-url"),
            ("--upstream-rs https://x/ --host 0.0.0.0 --public-url https://a.example", "--host"),
            (
                "--upstream-rs https://x/ --host 0.0.0.0 --trusted-proxies 10.0.0.1 --public-url http://a.example",
                "--host",
            ),
            ("--upstream-rs https://x/ --host 0.0.0.0 --trusted-proxies 10.0.0.1", "--host"),
            ("--upstream-rs https://x/ --trusted-proxies 10.0.0.1/8", "--trusted-proxies"),
            ("--upstream-rs https://x/ --trusted-proxies 10.0.0.0/8,nginx", "--trusted-proxies"),
            ("--upstream-rs https://x/ --trusted-proxies 0.0.0.0/0", "--trusted-proxies"),
            ("--upstream-rs https://x/ --public-url http://example.com", "--public-url"),
            ("--upstream-rs https://x/ --public-url example.com", "--public-url"),
            ("--upstream-rs https://x/ --upstream-client-secret s", "--upstream-client-secret"),
            (
                "--upstream-rs https://x/ --upstream-token-endpoint https://x/t",
                "--upstream-authorize-endpoint",
            ),
            (
                "--upstream-rs https://x/ --upstream-token-endpoint https://x/t --upstream-authorize-endpoint https://x/a",
                "--upstream-client-id",
            ),
            ("--upstream-rs https://x/ --token-mode plain", "--token-mode"),
            ("--upstream-rs https://x/ --access-ttl 0", "--access-ttl"),
            ("--upstream-rs https://x/ --store redis", "--redis-url"),
            ("--upstream-rs https://x/ --redis-url redis://a", "--redis-url"),
            ("--upstream-rs https://x/ --store redis --redis-url a:6379", "--redis-url"),
            (
                "--upstream-rs https://x/ --store redis --redis-url redis://a --redis-prefix a*",
                "--redis-prefix",
            ),
            (
                "--upstream-rs https://x/ --store redis --redis-url redis://a --redis-ca ca.pem",
                "--redis-ca",
            ),
        ] {
            assert_eq!(checked(args).map(|_| ()).unwrap_err().flag, flag, "{args}");
        }
    }
}
