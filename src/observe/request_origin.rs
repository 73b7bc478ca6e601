//! The origin of a request, for the audit log. It travels with the task that answers the request, so
//! that no use case passes it on, and with the work that the task detaches.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use http::HeaderMap;
use http::header::USER_AGENT;

/// The maximum length of a recorded `User-Agent`, in characters.
const MAX_USER_AGENT_CHARS: usize = 200;

/// The source of a request. It decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOrigin {
    /// The address of the caller, behind trusted proxies.
    pub address: IpAddr,
    /// The `User-Agent` header, shortened.
    pub user_agent: Option<String>,
}

tokio::task_local! {
    static ORIGIN: Option<RequestOrigin>;
}

impl RequestOrigin {
    /// The origin of a request from `address` with these headers.
    pub fn of(address: IpAddr, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            address,
            user_agent: user_agent.map(|text| text.chars().take(MAX_USER_AGENT_CHARS).collect()),
        }
    }

    /// The origin of the request that this task answers. `None` for the gateway's own work.
    pub fn current() -> Option<Self> {
        ORIGIN.try_with(Clone::clone).ok().flatten()
    }

    /// Runs `answer` as the answer to a request of this origin. It is boxed: most requests are of another
    /// kind, and pay for the size of the largest one.
    pub fn scoped<F: Future>(self, answer: F) -> Pin<Box<impl Future<Output = F::Output>>> {
        Box::pin(Self::scope(Some(self), answer))
    }

    /// Runs `work` as the answer to a request of this origin, or as the gateway's own work.
    pub fn scope<F: Future>(origin: Option<Self>, work: F) -> impl Future<Output = F::Output> {
        ORIGIN.scope(origin, work)
    }
}
