//! Connecting: to one server, to whom the sentinels call the master, to a cluster.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates};
use tokio::time::timeout;

use crate::store::redis::at::{Login, Node, Place, RedisAt};
use crate::store::redis::link::{Conn, Failed, LONG};

/// How long one connection may take, names, TLS and sign-in together: a name server that answers half of what it is asked costs
/// ten seconds. Nobody waits for it so long.
const CONNECT: Duration = Duration::from_secs(12);
/// The same for a sentinel: there are others.
const SENTINEL: Duration = Duration::from_secs(3);
/// How often a cluster may send us on, or be asked again, for one command.
const REDIRECTS: u32 = 3;

/// Where to connect to, and whom to trust.
pub(super) struct Dial {
    pub(super) at: RedisAt,
    /// The configured CA in PEM; the machine's roots where there is none.
    roots: Option<Vec<u8>>,
}

impl Dial {
    /// Reads the CA's file.
    pub(super) fn new(at: RedisAt) -> Result<Self, String> {
        let read = |path: &std::path::PathBuf| std::fs::read(path).map_err(|why| format!("{} cannot be read: {why}", path.display()));
        let roots = at.ca.as_ref().map(read).transpose()?;
        Ok(Self { at, roots })
    }

    /// A connection for commands.
    pub(super) async fn connect(&self) -> Result<Conn, Failed> {
        match &self.at.place {
            Place::One(_) | Place::Socket(_) | Place::Sentinel(..) => Ok(Conn::One(one(&self.master().await?, CONNECT).await?)),
            Place::Cluster(nodes) => {
                let infos = nodes.iter().map(|node| Self::info(self.address(node), &self.at.login, 0));
                let mut builder = ClusterClient::builder(infos.collect::<Result<Vec<_>, _>>()?)
                    .retries(REDIRECTS)
                    .min_retry_wait(50)
                    .max_retry_wait(200)
                    .connection_timeout(CONNECT)
                    .response_timeout(LONG)
                    .overall_response_timeout(Some(LONG));
                if self.at.tls {
                    builder = builder.certs(self.certificates());
                }
                let client = builder.build().map_err(|e| not_asked(&e))?;
                let conn = timeout(CONNECT, client.get_async_connection()).await;
                Ok(Conn::Cluster(conn.map_err(|_| too_late())?.map_err(|e| not_asked(&e))?))
            }
        }
    }

    /// A connection that only listens; of a cluster any node will do, so another one at each `turn`.
    pub(super) async fn listener(&self, turn: usize) -> Result<PubSub, Failed> {
        let client = match &self.at.place {
            Place::One(_) | Place::Socket(_) | Place::Sentinel(..) => self.master().await?,
            Place::Cluster(nodes) => self.client(self.address(&nodes[turn % nodes.len()]), &self.at.login, 0)?,
        };
        let listener = timeout(CONNECT, client.get_async_pubsub()).await;
        listener.map_err(|_| too_late())?.map_err(|e| not_asked(&e))
    }

    async fn master(&self) -> Result<Client, Failed> {
        match &self.at.place {
            Place::One(node) => self.client(self.address(node), &self.at.login, self.at.db),
            Place::Socket(path) => self.client(ConnectionAddr::Unix(path.clone()), &self.at.login, self.at.db),
            Place::Sentinel(nodes, group, login) => {
                let mut why = Failed::NotAsked("no sentinel".to_owned());
                for node in nodes {
                    match self.watched(node, group, login).await {
                        Ok(client) => return Ok(client),
                        Err(failed) => why = failed,
                    }
                }
                Err(why)
            }
            // A cluster has many; nobody asks.
            Place::Cluster(nodes) => self.client(self.address(&nodes[0]), &self.at.login, 0),
        }
    }

    /// Whom this sentinel calls the master, if he calls himself so too: a sentinel may be behind.
    async fn watched(&self, sentinel: &Node, group: &str, login: &Login) -> Result<Client, Failed> {
        let mut asked = one(&self.client(self.address(sentinel), login, 0)?, SENTINEL).await?;
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("get-master-addr-by-name").arg(group);
        let named: Option<(String, u16)> = cmd.query_async(&mut asked).await.map_err(|e| not_asked(&e))?;
        let (host, port) = named.ok_or_else(|| Failed::NotAsked(format!("the sentinel {sentinel} watches no {group}")))?;
        let client = self.client(self.address(&Node { host, port }), &self.at.login, self.at.db)?;
        let role = redis::cmd("ROLE")
            .query_async::<redis::Value>(&mut one(&client, SENTINEL).await?)
            .await;
        let role = role.map_err(|e| not_asked(&e))?;
        let is_master = |role: &redis::Value| matches!(role, redis::Value::Array(parts) if parts.first() == Some(&redis::Value::BulkString(b"master".to_vec())));
        if is_master(&role) {
            Ok(client)
        } else {
            Err(Failed::NotAsked(format!("whom the sentinel {sentinel} calls master is none yet")))
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

    fn info(address: ConnectionAddr, login: &Login, db: u16) -> Result<ConnectionInfo, Failed> {
        let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(db.into());
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password.expose());
        }
        let info = address.into_connection_info().map_err(|e| not_asked(&e))?;
        Ok(info
            .set_redis_settings(redis)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }

    fn client(&self, address: ConnectionAddr, login: &Login, db: u16) -> Result<Client, Failed> {
        let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
        let info = Self::info(address, login, db)?;
        let client = if is_tls {
            Client::build_with_tls(info, self.certificates())
        } else {
            Client::open(info)
        };
        client.map_err(|e| not_asked(&e))
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: None,
            root_cert: self.roots.clone(),
        }
    }
}

async fn one(client: &Client, within: Duration) -> Result<MultiplexedConnection, Failed> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(LONG));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|e| not_asked(&e))
}

/// While connecting nothing was asked yet, whatever went wrong.
fn not_asked(error: &redis::RedisError) -> Failed {
    match Failed::of(error) {
        // Of a socket's error the text is told: refused, no such host, a certificate. It knows no password.
        Failed::Lost(_) if error.is_io_error() => Failed::NotAsked(error.to_string()),
        Failed::Lost(why) | Failed::NotAsked(why) => Failed::NotAsked(why),
        Failed::Late => too_late(),
        Failed::Refused(word, detail) => Failed::NotAsked(format!("it says {word} {detail}")),
    }
}

fn too_late() -> Failed {
    Failed::NotAsked("no connection in time".to_owned())
}
