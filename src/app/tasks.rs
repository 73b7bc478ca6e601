//! Detached work: it runs on the background runtime, so that neither a closing worker nor a client
//! that hangs up cancels it, and a stop waits for it.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::net::http_client::HttpClient;
use crate::observe::request_origin::RequestOrigin;

/// Runs and counts detached work.
#[derive(Debug)]
pub struct Tasks {
    runtime: Handle,
    http: HttpClient,
    tracker: TaskTracker,
}

impl Tasks {
    /// Work runs on `runtime` and sends its requests with `http`, whose connections belong to that
    /// runtime.
    pub fn new(runtime: Handle, http: HttpClient) -> Self {
        Self {
            runtime,
            http,
            tracker: TaskTracker::new(),
        }
    }

    /// The HTTP client of the background runtime.
    pub(in crate::app) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Runs `work` to its end, whether or not the caller waits for the result. It has the origin of the
    /// caller's request.
    pub(in crate::app) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tracker
            .spawn_on(RequestOrigin::scope(RequestOrigin::current(), work), &self.runtime)
    }

    /// Resolves when no detached work is left.
    pub(in crate::app) async fn finished(&self) {
        // A closed tracker still takes work, and resolves once it is empty.
        self.tracker.close();
        self.tracker.wait().await;
    }
}
