//! Parses and checks the address of a Redis. Errors omit the URL: it may hold a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, form_urlencoded};

use crate::base::secret::Secret;

const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;

/// A server, a Sentinel group or a cluster, and the key prefix. `Display` omits credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    pub(super) place: RedisTopology,
    pub(super) tls: bool,
    pub(super) login: RedisLogin,
    pub(super) db: u16,
    pub(super) prefix: String,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RedisTopology {
    One(Node),
    Socket(PathBuf),
    /// The sentinels, the name of the group that they watch, and the login for the sentinels.
    Sentinel(Vec<Node>, String, RedisLogin),
    Cluster(Vec<Node>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RedisLogin {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// The reason why a URL or a prefix is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisConfigError {
    /// The scheme is unknown.
    #[error(
        "begins with none of redis://, rediss://, redis+unix://, redis-sentinel://, rediss-sentinel://, redis-cluster://, rediss-cluster://"
    )]
    Scheme,
    /// The host or its port is missing or invalid.
    #[error("has no host, or one that cannot be a host; hosts are host or host:port, and separated by commas")]
    Host,
    /// There are several hosts, but the scheme allows only one.
    #[error("has several hosts, which only redis-sentinel:// and redis-cluster:// can have")]
    ManyHosts,
    /// The database is not a number, or is not 0 for a cluster.
    #[error("ends in something else than a database number, such as /0; a cluster has only 0")]
    Database,
    /// The URL does not name the group that the sentinels watch.
    #[error("has no name of a group after the sentinels, such as redis-sentinel://host1,host2/mymaster")]
    NoGroup,
    /// The user, password, socket path or group is not percent-encoded UTF-8.
    #[error("has a user or a password that is not percent-encoded")]
    Login,
    /// The query parameter is unknown, or does not apply to this scheme.
    #[error("has a query that is not known")]
    Query,
    /// The URL has a `#` that is not percent-encoded.
    #[error("has a #; in a password write it as %23")]
    Fragment,
    /// The prefix is empty, longer than 64, or has characters other than letters, digits, `._:-`.
    #[error("must be 1 to 64 letters, digits, dots, colons, underscores or dashes")]
    Prefix,
    /// A CA is given, but the URL does not use TLS.
    #[error("is a CA for a URL without TLS; begin the URL with rediss")]
    CaWithoutTls,
}

impl RedisConfig {
    /// The prefix of the gateway's keys and channel if none is configured.
    pub const DEFAULT_PREFIX: &str = "mcp-gateway";

    /// Parses `redis[s]://[user][:password]@host[:port][/db]`, `redis+unix:///path[?db=N]`,
    /// `redis[s]-sentinel://[user][:password]@host,host/group[/db]` or
    /// `redis[s]-cluster://[user][:password]@host,host`. `?sentinel_user=&sentinel_password=` is
    /// the login for the sentinels. With `ca`, a PEM file, nothing else is trusted.
    ///
    /// # Errors
    /// [`RedisConfigError`] for the first mistake found.
    pub fn parse(url: &str, prefix: &str, ca: Option<PathBuf>) -> Result<Self, RedisConfigError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(is_plain) {
            return Err(RedisConfigError::Prefix);
        }
        let (scheme, rest) = url.split_once("://").ok_or(RedisConfigError::Scheme)?;
        if rest.contains('#') {
            return Err(RedisConfigError::Fragment);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The last `@` ends the login: an unescaped `@` in a password must not move the host.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (read_login(login)?, rest),
            None => (RedisLogin::default(), rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, tls, db) = match scheme {
            "redis" | "rediss" => (one(hosts)?, scheme == "rediss", path),
            "redis+unix" => (RedisTopology::Socket(PathBuf::from(decoded(&format!("/{path}"))?)), false, ""),
            "redis-cluster" | "rediss-cluster" => (RedisTopology::Cluster(nodes(hosts, REDIS)?), scheme == "rediss-cluster", path),
            "redis-sentinel" | "rediss-sentinel" => {
                let (group, db) = path.split_once('/').unwrap_or((path, ""));
                if group.is_empty() {
                    return Err(RedisConfigError::NoGroup);
                }
                let topology = RedisTopology::Sentinel(nodes(hosts, SENTINEL)?, decoded(group)?, RedisLogin::default());
                (topology, scheme == "rediss-sentinel", db)
            }
            _ => return Err(RedisConfigError::Scheme),
        };
        if ca.is_some() && !tls {
            return Err(RedisConfigError::CaWithoutTls);
        }
        let mut config = Self {
            place: topology,
            tls,
            login,
            db: database(db)?,
            prefix: prefix.to_owned(),
            ca,
        };
        config.parse_query(query)?;
        if config.db != 0 && matches!(config.place, RedisTopology::Cluster(_)) {
            return Err(RedisConfigError::Database);
        }
        Ok(config)
    }

    /// Whether a password goes to another machine without TLS.
    pub fn sends_password_in_clear(&self) -> bool {
        let has_password = |login: &RedisLogin| login.password.is_some();
        let (is_local, has_sentinel_password) = match &self.place {
            RedisTopology::One(node) => (node.is_loopback(), false),
            RedisTopology::Socket(_) => (true, false),
            RedisTopology::Sentinel(nodes, _, login) => (nodes.iter().all(Node::is_loopback), has_password(login)),
            RedisTopology::Cluster(nodes) => (nodes.iter().all(Node::is_loopback), false),
        };
        !self.tls && !is_local && (has_password(&self.login) || has_sentinel_password)
    }

    #[cfg(feature = "redis")]
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.place, RedisTopology::Cluster(_))
    }

    fn parse_query(&mut self, query: &str) -> Result<(), RedisConfigError> {
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (name.as_ref(), &mut self.place) {
                ("db", RedisTopology::Socket(_)) => self.db = database(&value)?,
                ("sentinel_user", RedisTopology::Sentinel(_, _, login)) => login.user = Some(value.into_owned()),
                ("sentinel_password", RedisTopology::Sentinel(_, _, login)) => login.password = Some(Secret::from(value.into_owned())),
                _ => return Err(RedisConfigError::Query),
            }
        }
        Ok(())
    }
}

impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join_nodes = |nodes: &[Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.place {
            RedisTopology::One(node) => write!(f, "{node}"),
            RedisTopology::Socket(path) => write!(f, "{}", path.display()),
            RedisTopology::Sentinel(nodes, group, _) => write!(f, "{group} of the sentinels {}", join_nodes(nodes)),
            RedisTopology::Cluster(nodes) => write!(f, "the cluster of {}", join_nodes(nodes)),
        }
    }
}

impl Node {
    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn one(hosts: &str) -> Result<RedisTopology, RedisConfigError> {
    let mut nodes = nodes(hosts, REDIS)?;
    match (nodes.pop(), nodes.is_empty()) {
        (Some(node), true) => Ok(RedisTopology::One(node)),
        _ => Err(RedisConfigError::ManyHosts),
    }
}

fn nodes(hosts: &str, port: u16) -> Result<Vec<Node>, RedisConfigError> {
    hosts.split(',').map(|host| node(host, port)).collect()
}

fn node(text: &str, default: u16) -> Result<Node, RedisConfigError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0).ok_or(RedisConfigError::Host)?),
        Some(_) | None => (text, default),
    };
    // Checks the host. An IP address loses its brackets; a name stays as written.
    let host = match Host::parse(host).map_err(|_| RedisConfigError::Host)? {
        Host::Ipv6(ip) => ip.to_string(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Domain(_) => host.to_owned(),
    };
    Ok(Node { host, port })
}

fn read_login(text: &str) -> Result<RedisLogin, RedisConfigError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let password = password.filter(|p| !p.is_empty()).map(decoded).transpose()?;
    Ok(RedisLogin {
        user: Some(decoded(user)?).filter(|user| !user.is_empty()),
        password: password.map(Secret::from),
    })
}

fn decoded(text: &str) -> Result<String, RedisConfigError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| RedisConfigError::Login)?;
    Ok(decoded.into_owned())
}

fn database(text: &str) -> Result<u16, RedisConfigError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| RedisConfigError::Database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<RedisConfig, RedisConfigError> {
        RedisConfig::parse(url, RedisConfig::DEFAULT_PREFIX, None)
    }

    #[test]
    fn every_form_of_redis_url_is_parsed() {
        let single = read("rediss://gate:p%40ss@redis.example:7000/3").unwrap();
        assert_eq!(
            (single.to_string().as_str(), single.tls, single.db),
            ("redis.example:7000", true, 3)
        );
        assert_eq!(single.login.user.as_deref(), Some("gate"));
        assert_eq!(single.login.password, Some(Secret::from("p@ss")));
        let without_user = read("redis://:secret@[::1]").unwrap();
        assert_eq!((without_user.to_string().as_str(), without_user.login.user), ("[::1]:6379", None));
        let socket = read("redis+unix:///run/redis.sock?db=2").unwrap();
        assert_eq!((socket.to_string().as_str(), socket.db), ("/run/redis.sock", 2));
        let sentinel = read("redis-sentinel://a,b:1/group/4?sentinel_password=x").unwrap();
        assert_eq!(
            (sentinel.to_string().as_str(), sentinel.db),
            ("group of the sentinels a:26379,b:1", 4)
        );
        let cluster = read("rediss-cluster://u:p@a:7001,b:7002").unwrap();
        assert_eq!((cluster.to_string().as_str(), cluster.tls), ("the cluster of a:7001,b:7002", true));
    }

    #[test]
    fn each_invalid_redis_url_is_refused_with_its_reason() {
        for (url, expected) in [
            ("localhost:6379", RedisConfigError::Scheme),
            ("http://localhost", RedisConfigError::Scheme),
            ("redis://", RedisConfigError::Host),
            ("redis://a b", RedisConfigError::Host),
            ("redis://a:0", RedisConfigError::Host),
            ("redis://a,b", RedisConfigError::ManyHosts),
            ("redis://a/zero", RedisConfigError::Database),
            ("redis-cluster://a,b/1", RedisConfigError::Database),
            ("redis-sentinel://a,b", RedisConfigError::NoGroup),
            ("redis://u:%ff@a", RedisConfigError::Login),
            ("redis://a?protocol=resp3", RedisConfigError::Query),
            ("redis://:pass#word@a", RedisConfigError::Fragment),
        ] {
            assert_eq!(read(url).unwrap_err(), expected, "{url}");
        }
        for prefix in ["", "{tag}", "a*", &"x".repeat(65)] {
            assert_eq!(RedisConfig::parse("redis://a", prefix, None).unwrap_err(), RedisConfigError::Prefix);
        }
        let ca = Some(PathBuf::from("ca.pem"));
        assert_eq!(
            RedisConfig::parse("redis://a", RedisConfig::DEFAULT_PREFIX, ca).unwrap_err(),
            RedisConfigError::CaWithoutTls
        );
    }

    #[test]
    fn redis_config_text_never_shows_a_password() {
        let config = read("redis-sentinel://u:canary-1@a/group?sentinel_password=canary-2").unwrap();
        assert!(!format!("{config} {config:?}").contains("canary"));
    }
}
