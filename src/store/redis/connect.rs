//! Connecting to a single server, to the master that Sentinel names, or to a cluster.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates};
use tokio::time::timeout;

use crate::store::redis::config::{Node, RedisConfig, RedisLogin, RedisTopology};
use crate::store::redis::error::CommandError;

/// Timeout for DNS, TCP, TLS and login together. A DNS server that answers only half of the queries
/// costs ten seconds. No request waits this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);
/// The same for one sentinel. It is shorter, because there may be other sentinels.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for one command of a scan. No request waits for a scan.
pub(super) const SCAN_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of retries and redirects of the cluster client for one command.
const MAX_REDIRECTS: u32 = 3;

/// A connection to one server or to a cluster. Clones share it.
#[derive(Clone)]
pub(super) enum RawConnection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The server's address and the trusted certificates.
pub(super) struct Connector {
    pub(super) at: RedisConfig,
    /// The configured CA in PEM. `None` means the system's roots.
    roots: Option<Vec<u8>>,
}

impl Connector {
    /// Reads the CA file.
    pub(super) fn new(config: RedisConfig) -> Result<Self, String> {
        let read_file =
            |path: &std::path::PathBuf| std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()));
        let roots = config.ca.as_ref().map(read_file).transpose()?;
        Ok(Self { at: config, roots })
    }

    /// Opens a connection for commands.
    pub(super) async fn connect(&self) -> Result<RawConnection, CommandError> {
        match &self.at.place {
            RedisTopology::One(_) | RedisTopology::Socket(_) | RedisTopology::Sentinel(..) => {
                Ok(RawConnection::One(one(&self.master().await?, CONNECT_TIMEOUT).await?))
            }
            RedisTopology::Cluster(nodes) => {
                let infos = nodes.iter().map(|node| Self::info(self.address(node), &self.at.login, 0));
                let mut builder = ClusterClient::builder(infos.collect::<Result<Vec<_>, _>>()?)
                    .retries(MAX_REDIRECTS)
                    .min_retry_wait(50)
                    .max_retry_wait(200)
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(SCAN_TIMEOUT)
                    .overall_response_timeout(Some(SCAN_TIMEOUT));
                if self.at.tls {
                    builder = builder.certs(self.certificates());
                }
                let client = builder.build().map_err(|e| connect_error(&e))?;
                let conn = timeout(CONNECT_TIMEOUT, client.get_async_connection()).await;
                Ok(RawConnection::Cluster(
                    conn.map_err(|_| timeout_error())?.map_err(|e| connect_error(&e))?,
                ))
            }
        }
    }

    /// Opens a connection for a subscription. In a cluster any node will do: `attempt` selects one.
    pub(super) async fn listener(&self, attempt: usize) -> Result<PubSub, CommandError> {
        let client = match &self.at.place {
            RedisTopology::One(_) | RedisTopology::Socket(_) | RedisTopology::Sentinel(..) => self.master().await?,
            RedisTopology::Cluster(nodes) => self.client(self.address(&nodes[attempt % nodes.len()]), &self.at.login, 0)?,
        };
        let pubsub = timeout(CONNECT_TIMEOUT, client.get_async_pubsub()).await;
        pubsub.map_err(|_| timeout_error())?.map_err(|e| connect_error(&e))
    }

    async fn master(&self) -> Result<Client, CommandError> {
        match &self.at.place {
            RedisTopology::One(node) => self.client(self.address(node), &self.at.login, self.at.db),
            RedisTopology::Socket(path) => self.client(ConnectionAddr::Unix(path.clone()), &self.at.login, self.at.db),
            RedisTopology::Sentinel(nodes, group, login) => {
                let mut last_error = CommandError::NotAsked("no sentinel".to_owned());
                for node in nodes {
                    match self.master_of(node, group, login).await {
                        Ok(client) => return Ok(client),
                        Err(error) => last_error = error,
                    }
                }
                Err(last_error)
            }
            // Unused: `connect` and `listener` handle a cluster themselves.
            RedisTopology::Cluster(nodes) => self.client(self.address(&nodes[0]), &self.at.login, 0),
        }
    }

    /// Asks a sentinel for the master. It may be outdated, so the server must confirm its role.
    async fn master_of(&self, sentinel: &Node, group: &str, login: &RedisLogin) -> Result<Client, CommandError> {
        let mut connection = one(&self.client(self.address(sentinel), login, 0)?, SENTINEL_TIMEOUT).await?;
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("get-master-addr-by-name").arg(group);
        let master_address: Option<(String, u16)> = cmd.query_async(&mut connection).await.map_err(|e| connect_error(&e))?;
        let (host, port) = master_address.ok_or_else(|| CommandError::NotAsked(format!("the sentinel {sentinel} watches no {group}")))?;
        let client = self.client(self.address(&Node { host, port }), &self.at.login, self.at.db)?;
        let role = redis::cmd("ROLE")
            .query_async::<redis::Value>(&mut one(&client, SENTINEL_TIMEOUT).await?)
            .await;
        let role = role.map_err(|e| connect_error(&e))?;
        let is_master = |role: &redis::Value| matches!(role, redis::Value::Array(parts) if parts.first() == Some(&redis::Value::BulkString(b"master".to_vec())));
        if is_master(&role) {
            Ok(client)
        } else {
            Err(CommandError::NotAsked(format!(
                "whom the sentinel {sentinel} calls master is none yet"
            )))
        }
    }

    fn address(&self, node: &Node) -> ConnectionAddr {
        let Node { host, port } = node.clone();
        if self.at.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn info(address: ConnectionAddr, login: &RedisLogin, db: u16) -> Result<ConnectionInfo, CommandError> {
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(db.into());
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password.expose());
        }
        let info = address.into_connection_info().map_err(|e| connect_error(&e))?;
        Ok(info
            .set_redis_settings(redis)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }

    fn client(&self, address: ConnectionAddr, login: &RedisLogin, db: u16) -> Result<Client, CommandError> {
        let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
        let info = Self::info(address, login, db)?;
        let client = if is_tls {
            Client::build_with_tls(info, self.certificates())
        } else {
            Client::open(info)
        };
        client.map_err(|e| connect_error(&e))
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: self.roots.clone(),
        }
    }
}

async fn one(client: &Client, max_wait: Duration) -> Result<MultiplexedConnection, CommandError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(max_wait))
        .set_response_timeout(Some(SCAN_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|e| connect_error(&e))
}

/// Maps an error while connecting: no command has been sent yet.
fn connect_error(error: &redis::RedisError) -> CommandError {
    match CommandError::of(error) {
        // A socket error's text is shown: refused, no such host, certificate. It has no password.
        CommandError::Lost(_) if error.is_io_error() => CommandError::NotAsked(error.to_string()),
        CommandError::Lost(reason) | CommandError::NotAsked(reason) => CommandError::NotAsked(reason),
        CommandError::Late => timeout_error(),
        CommandError::Refused(code, detail) => CommandError::NotAsked(format!("it says {code} {detail}")),
    }
}

fn timeout_error() -> CommandError {
    CommandError::NotAsked("no connection in time".to_owned())
}
