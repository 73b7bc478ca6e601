//! Starts everything, waits for the signal to stop, and stops everything in order.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::authorize::pending_flows;
use crate::app::core::AppParts;
use crate::app::tasks::Tasks;
use crate::base::time::Clock;
use crate::cli::password_users::{self, Users};
use crate::cli::reload::{self, Reloader};
use crate::cli::running_audit::RunningAudit;
use crate::cli::storage::Storage;
use crate::cli::terminal::print_stderr;
use crate::cli::{arguments, banner, data_dir, greeting, load_config, local_keys, reload_request};
use crate::config::flags::Serve;
use crate::config::listen::TlsSource;
use crate::config::spanned::Location;
use crate::config::store::StoreConfig;
use crate::config::validate::Validated;
use crate::net::connection_quota::ConnectionQuota;
use crate::net::http_client::HttpClient;
use crate::net::server::{self, ServerLimits};
use crate::net::tls::{ClientTls, ServerTls};
use crate::net::{listen, open_files, self_signed};
use crate::observe::log;
use crate::service::config::Config;
use crate::store::{SharedKeyRing, Store};
use crate::web::router::Router;

/// The time that detached refreshes may take to commit after the last connection is closed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(70);

/// The maximum number of connections for each worker.
const MAX_CONNECTIONS_PER_WORKER: usize = 10_000;

/// The interval at which the gateway checks the expiry of its own certificates.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(86_400);

/// The time for which the shutdown waits for blocked threads, such as an unanswered name lookup.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT. An error is a text for the operator.
pub fn run(flags: &Serve) -> Result<(), String> {
    let validated = load_config::load(flags)?;
    // Written before the caller shows an error.
    let _log_guard = log::init(&validated.start.log);
    serve(flags, &validated, std::io::stderr().is_terminal(), shutdown_signal())
}

/// Serves until `end` resolves, for a process with its own reason to stop.
pub fn run_until(flags: &Serve, end: impl Future<Output = ()>) -> Result<(), String> {
    serve(flags, &load_config::load(flags)?, false, end)
}

/// `shows_greeting`: a person reads a greeting, instead of the log lines about the start.
fn serve(flags: &Serve, validated: &Validated, shows_greeting: bool, end: impl Future<Output = ()>) -> Result<(), String> {
    validated.check_features().map_err(|error| error.to_string())?;
    for warning in &validated.warnings {
        tracing::warn!("{warning}");
    }
    let (storage, user) = (Storage::of(validated), data_dir::user(flags));
    let _lock = lock_data_dir(validated)?;
    let clock = Clock::System;
    let background = background_runtime()?;
    let keys: SharedKeyRing = Arc::new(ArcSwap::from_pointee(storage.load_or_create_keys(&clock, &background)?));
    let Users { users, unsaved_hash } = password_users::users(validated, &validated.start.data_dir, user)?;
    let server_tls = server_tls(validated, true)?;
    let client_tls = client_tls(validated)?;
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let listeners = listeners(flags, validated, workers)?;

    let store = storage.open(&keys, &clock)?;
    background.block_on(storage.ensure_key_check(&store))?;
    let audit = RunningAudit::start(validated, &clock)?;
    let app = App::new(AppParts {
        store: store.clone(),
        keys: Arc::clone(&keys),
        urls: validated.start.urls.clone(),
        config: Config {
            users,
            ..validated.config.clone()
        },
        clock,
        max_pending_flows: pending_flows::MAX_PENDING_FLOWS,
        tasks: Tasks::new(background.handle().clone(), HttpClient::new(client_tls.clone())),
        audit: audit.log.clone(),
    });
    let stop = CancellationToken::new();
    // An early return stops what was started.
    let _stop_guard = stop.clone().drop_guard();
    reload_in_background(&background, flags, validated, &app)?;
    spawn_background_work(&background, &app, validated, server_tls.as_ref(), &stop);
    renew_in_background(&background, validated, store);
    let password = shows_greeting.then(|| password_source(unsaved_hash.is_some()));
    announce_start(flags, validated, password, workers);
    let context = WorkerContext {
        app: Arc::clone(&app),
        client_tls,
        server_tls,
        limits: server_limits(validated, workers),
        stop: stop.clone(),
    };
    let threads = start_workers(listeners, &context)?;
    if let Some(hash) = unsaved_hash {
        background.spawn(password_users::store_hash(hash, validated.start.data_dir.clone()));
    }
    background.block_on(end);
    let outcome = drain(&stop, threads, &background, &app);
    audit.finish();
    shutdown_runtime(background);
    outcome
}

/// Reads the keys of this machine, and the configuration file again on SIGHUP and on request, if there is
/// one.
fn reload_in_background(background: &Runtime, flags: &Serve, validated: &Validated, app: &Arc<App>) -> Result<(), String> {
    local_keys::load(app, &validated.start.data_dir)?;
    if flags.storage.config.is_some() {
        // Registered before the start is logged: an unhandled SIGHUP would end the process.
        let _runtime_guard = background.enter();
        background.spawn(reload_request::reload_on_request(Reloader::new(flags, validated), Arc::clone(app))?);
    }
    Ok(())
}

/// Renews the certificate before it ends, and reads the key file again when it changes.
fn renew_in_background(background: &Runtime, validated: &Validated, store: Store) {
    if Storage::has_key_file() {
        background.spawn(reload::watch_keys(Storage::of(validated).key_file(), store));
    }
    if matches!(validated.start.certificate, TlsSource::SelfSigned) {
        background.spawn(renew_certificates(validated.start.data_dir.clone(), public_host(validated)));
    }
}

/// The source of the password in the data directory. A new password was shown before the greeting.
fn password_source(is_new: bool) -> &'static str {
    match (is_new, arguments::is_set("MCP_GATEWAY_PASSWORD")) {
        (true, _) => "the password above",
        (false, true) => "the password of MCP_GATEWAY_PASSWORD",
        (false, false) => "the password of the first start",
    }
}

/// Shows the addresses, and warns of what is open to others. With a `password` to name, as a greeting.
fn announce_start(flags: &Serve, validated: &Validated, password: Option<&str>, workers: usize) {
    if let Some(password) = password {
        let user = validated.creates_user.then(|| (data_dir::user(flags), password));
        print_stderr(format_args!("{}", greeting::text(&validated.start.urls, &validated.config, user)));
    } else {
        banner::log_started(&validated.start.urls, &validated.config.services, workers);
    }
    banner::log_warnings(&validated.config.services);
}

/// Prepares and locks the data directory, if the store needs one.
fn lock_data_dir(validated: &Validated) -> Result<Option<std::fs::File>, String> {
    let (dir, location) = (&validated.start.data_dir, &validated.locations.storage.data_dir);
    match validated.start.store {
        StoreConfig::Stateless => Ok(None),
        StoreConfig::Memory | StoreConfig::Sqlite | StoreConfig::Redis(_) | StoreConfig::Vault(_) => {
            data_dir::prepare(dir, location)?;
            data_dir::lock(dir, location).map(Some)
        }
    }
}

/// The background runtime: one thread, so that detached work does not take a core from the workers.
fn background_runtime() -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// Ends a runtime. Dropping it would wait for threads that wait for a name server.
fn shutdown_runtime(runtime: Runtime) {
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
}

fn drain(stop: &CancellationToken, threads: Vec<std::thread::JoinHandle<()>>, background: &Runtime, app: &Arc<App>) -> Result<(), String> {
    tracing::info!("draining: no new connections; running requests may finish");
    stop.cancel();
    for thread in threads {
        thread.join().map_err(|_| "a worker panicked")?;
    }
    // Waits for every running refresh, so that no rotated upstream token is lost.
    let finished = background.block_on(async { tokio::time::timeout(COMMIT_TIMEOUT, app.tasks_finished()).await });
    if finished.is_err() {
        tracing::error!("a refresh did not finish in time");
    }
    tracing::info!("stopped");
    Ok(())
}

fn spawn_background_work(
    background: &Runtime,
    app: &Arc<App>,
    validated: &Validated,
    tls: Option<&Arc<ServerTls>>,
    stop: &CancellationToken,
) {
    let (app_for_upkeep, stop_for_upkeep) = (Arc::clone(app), stop.clone());
    background.spawn(async move { app_for_upkeep.run(stop_for_upkeep).await });
    background.spawn(local_keys::watch(Arc::clone(app), validated.start.data_dir.clone()));
    let app_for_prefetch = Arc::clone(app);
    background.spawn(async move { app_for_prefetch.prefetch().await });
    if let Some(tls) = tls {
        background.spawn(Arc::clone(tls).watch());
    }
}

/// Binds one listener for each worker and address.
fn listeners(flags: &Serve, validated: &Validated, workers: usize) -> Result<Vec<Vec<TcpListener>>, String> {
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (i, address) in validated.start.listen.iter().enumerate() {
        match listen::bind_workers(*address, workers) {
            Ok(listeners) => by_worker
                .iter_mut()
                .zip(listeners)
                .for_each(|(worker, listener)| worker.push(listener)),
            Err(error) if i > 0 && listen::is_missing_address(&error) => tracing::debug!(%address, "this machine has no such address"),
            Err(error) => return Err(listen_error(flags, validated.locations.listen.as_ref(), *address, &error)),
        }
    }
    Ok(by_worker)
}

/// The error for an address that cannot be listened on. It names the setting that can change it.
fn listen_error(flags: &Serve, listen: Option<&Location>, address: SocketAddr, error: &std::io::Error) -> String {
    let port_fix = "another program may be using the port; stop it, or choose another";
    let what = format!("cannot listen on {address}: {error}");
    match (listen, &flags.storage.config) {
        (Some(location @ Location::Line { .. }), _) => location.wrong(what, format!("{port_fix} at `listen`")).to_string(),
        (None, Some(file)) => {
            let file = file.display();
            format!("{file}: {what}\n  {port_fix}: write `listen = \"localhost:PORT\"` at the top of the file")
        }
        (_, _) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            Location::Flag("--host").wrong(what, "use an address of this machine").to_string()
        }
        (_, _) => Location::Flag("--port").wrong(what, format!("{port_fix} with --port")).to_string(),
    }
}

/// The parameters of each worker.
#[derive(Clone)]
struct WorkerContext {
    app: Arc<App>,
    client_tls: ClientTls,
    server_tls: Option<Arc<ServerTls>>,
    limits: ServerLimits,
    stop: CancellationToken,
}

/// The limits of all listeners. Raises the limit of open files first.
fn server_limits(validated: &Validated, workers: usize) -> ServerLimits {
    let open_files = open_files::raise_limit();
    tracing::debug!(open_files, "the limit of open files");
    let proxies = validated.start.urls.trusted_proxies.clone();
    let max_connections = MAX_CONNECTIONS_PER_WORKER.saturating_mul(workers);
    ServerLimits {
        connections: Arc::new(ConnectionQuota::for_open_files(open_files, max_connections, proxies)),
        ..ServerLimits::default()
    }
}

fn start_workers(listeners: Vec<Vec<TcpListener>>, context: &WorkerContext) -> Result<Vec<std::thread::JoinHandle<()>>, String> {
    let start = |(i, listeners): (usize, Vec<TcpListener>)| {
        let context = context.clone();
        let thread = std::thread::Builder::new().name(format!("worker-{i}"));
        let started = thread.spawn(move || run_worker(listeners, context));
        started.map_err(|error| error.to_string())
    };
    listeners.into_iter().enumerate().map(start).collect()
}

/// Runs a worker: a runtime with its listeners and its own HTTP client.
fn run_worker(listeners: Vec<TcpListener>, context: WorkerContext) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(why = %error, "a worker did not start"),
    };
    runtime.block_on(async {
        let (router, http) = (Router::new(context.app), HttpClient::new(context.client_tls));
        let servers = listeners.into_iter().map(|listener| {
            let (router, http) = (router.clone(), http.clone());
            let handler = move |request, peer: server::Peer| {
                let (router, http) = (router.clone(), http.clone());
                async move { router.handle(&http, request, peer.address.ip()).await }
            };
            server::serve(
                listener,
                context.server_tls.clone(),
                context.limits.clone(),
                context.stop.clone(),
                handler,
            )
        });
        for result in futures_util::future::join_all(servers).await {
            if let Err(error) = result {
                tracing::error!(why = %error, "a listener failed");
            }
        }
    });
    shutdown_runtime(runtime);
}

/// The TLS settings for outgoing requests, with the operator's additional CAs.
pub(super) fn client_tls(validated: &Validated) -> Result<ClientTls, String> {
    let instead = "name a file with certificates in PEM";
    ClientTls::load(&validated.start.upstream_ca)
        .map_err(|error| validated.locations.upstream_ca.wrong(error.to_string(), instead).to_string())
}

/// The TLS settings of the listeners. A greeting says how to trust a certificate of our own.
pub(super) fn server_tls(validated: &Validated, greets: bool) -> Result<Option<Arc<ServerTls>>, String> {
    match &validated.start.certificate {
        TlsSource::None => Ok(None),
        TlsSource::SelfSigned => {
            let generated = self_signed::self_signed(&validated.start.data_dir, &[public_host(validated)]).map_err(|error| {
                let instead = "give the gateway a data directory that it may write to, or a certificate of your own";
                validated.locations.certificate.wrong(error.to_string(), instead).to_string()
            })?;
            if greets {
                banner::print_self_signed(&generated);
            }
            let tls = ServerTls::by_server_name(generated.named, generated.unnamed);
            tls.map_err(|error| error.to_string()).map(|tls| Some(Arc::new(tls)))
        }
        TlsSource::Files { cert, key } => tls_of(validated, cert, key).map(Some),
    }
}

/// The host of `public_url`, which the gateway's own certificate covers.
fn public_host(validated: &Validated) -> String {
    let public_url = crate::base::url::ExactUrl::parse(validated.start.urls.public_url()).ok();
    public_url
        .and_then(|url| url.url().host_str().map(|host| host.trim_matches(['[', ']']).to_owned()))
        .unwrap_or_default()
}

/// Renews the gateway's own certificates once a day, forever. [`ServerTls::watch`] loads them.
async fn renew_certificates(dir: std::path::PathBuf, host: String) {
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        let (dir, names) = (dir.clone(), [host.clone()]);
        match tokio::task::spawn_blocking(move || self_signed::renew_leaves(&dir, &names)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the TLS certificate was not renewed"),
            Err(error) => tracing::error!(%error, "the renewal of the TLS certificate failed"),
        }
    }
}

/// Loads a certificate chain and its key.
pub(super) fn tls_of(validated: &Validated, cert: &Path, key: &Path) -> Result<Arc<ServerTls>, String> {
    let instead = "name a certificate chain and the key that belongs to it, both in PEM, in files that the gateway may read";
    let tls =
        ServerTls::from_files(cert, key).map_err(|error| validated.locations.certificate.wrong(error.to_string(), instead).to_string());
    tls.map(Arc::new)
}

/// Waits for SIGTERM or SIGINT.
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut term) = signal(SignalKind::terminate()) else {
            return drop(tokio::signal::ctrl_c().await);
        };
        tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    }
    #[cfg(not(unix))]
    drop(tokio::signal::ctrl_c().await);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{Builder, shutdown_runtime};

    #[test]
    fn shutdown_does_not_wait_for_a_blocked_thread() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (started_sender, started_receiver) = mpsc::channel();
        let (release_sender, release_receiver) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || {
            started_sender.send(()).unwrap();
            release_receiver.recv()
        });
        started_receiver.recv().unwrap();
        shutdown_runtime(runtime);
        // The thread still waits, because nothing answered.
        assert!(release_sender.send(()).is_ok());
    }
}
