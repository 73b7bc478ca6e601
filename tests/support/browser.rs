//! A scripted browser: cookies, forms, redirects and refresh pages. It runs no scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use mcp_oauth_gateway::net::body::{RequestBody, read_limited};
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::{HttpClient, RequestPolicy};
use mcp_oauth_gateway::net::tls::{self, ClientTls};

/// A complete response.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub url: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Page {
    /// A header as text; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|why| panic!("{why}: {} {}", self.status, self.text))
    }

    /// The target of a redirect or of a refresh page.
    pub(crate) fn onward(&self) -> Option<String> {
        if self.status.is_redirection() {
            return Some(absolute(&self.url, self.header("location")));
        }
        let refresh = self.text.split("http-equiv=\"refresh\"").nth(1)?;
        let target = refresh.split("url=").nth(1)?.split('"').next()?;
        Some(absolute(&self.url, &unescape(target)))
    }

    /// The value of a hidden or prefilled field.
    pub(crate) fn field(&self, name: &str) -> String {
        let tag = self
            .text
            .split('<')
            .find(|tag| tag.starts_with("input") && tag.contains(&format!("name=\"{name}\"")))
            .unwrap_or_default();
        unescape(
            tag.split("value=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap_or_default(),
        )
    }

    /// The URL that the page's form is posted to.
    pub(crate) fn action(&self) -> String {
        let action = self
            .text
            .split("<form")
            .nth(1)
            .and_then(|f| f.split("action=\"").nth(1))
            .and_then(|a| a.split('"').next())
            .expect("the page has a form");
        absolute(&self.url, &unescape(action))
    }
}

fn unescape(text: &str) -> String {
    text.replace("&#38;", "&")
        .replace("&amp;", "&")
        .replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
}

fn absolute(base: &str, target: &str) -> String {
    match url::Url::parse(target) {
        Ok(_) => target.to_owned(),
        Err(_) => url::Url::parse(base).unwrap().join(target).unwrap().to_string(),
    }
}

/// A browser with its own cookies, by host and port.
#[derive(Clone)]
pub(crate) struct Browser {
    pub client: HttpClient,
    pub cookies: BTreeMap<String, String>,
    /// The `Sec-Fetch-Site` of opened pages; `None` is an old browser without the header.
    pub sent_by: Option<&'static str>,
    /// The `X-Forwarded-For` of a proxy in front of the gateway.
    pub forwarded_for: Option<String>,
}

impl Default for Browser {
    fn default() -> Self {
        tls::install_provider();
        Self {
            client: HttpClient::new(ClientTls::load(&[]).unwrap()),
            cookies: BTreeMap::new(),
            sent_by: None,
            forwarded_for: None,
        }
    }
}

/// Sends a request and reads the complete response.
pub(crate) async fn send(client: &HttpClient, request: Request<RequestBody>) -> Page {
    let url = request.uri().to_string();
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: Some(Duration::from_secs(100)),
        http2: false,
    };
    let answer = client.send(request, &policy).await.unwrap_or_else(|why| panic!("{url}: {why}"));
    let (head, body) = answer.into_parts();
    let body = read_limited(body, 64 << 20, Duration::from_secs(100)).await.unwrap();
    Page {
        url,
        status: head.status,
        headers: head.headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}

impl Browser {
    /// Opens a page. Redirects are not followed.
    pub(crate) async fn get(&mut self, url: &str) -> Page {
        self.ask(Method::GET, url, None).await
    }

    /// Posts a form, as a page of the same origin does.
    pub(crate) async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.ask(Method::POST, url, Some(body)).await
    }

    async fn ask(&mut self, method: Method, url: &str, body: Option<String>) -> Page {
        let parsed = url::Url::parse(url).unwrap();
        let origin = parsed.origin().ascii_serialization();
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "text/html");
        let jar: Vec<String> = self
            .cookies
            .iter()
            .filter_map(|(k, v)| Some(format!("{}={v}", k.strip_prefix(&format!("{origin} "))?)))
            .collect();
        if let Some(source) = &self.forwarded_for {
            request = request.header("x-forwarded-for", source);
        }
        if !jar.is_empty() {
            request = request.header(header::COOKIE, jar.join("; "));
        }
        let body = if let Some(text) = body {
            request = request
                .header(header::ORIGIN, &origin)
                .header("sec-fetch-site", "same-origin")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            RequestBody::Full(Bytes::from(text))
        } else {
            if let Some(site) = self.sent_by {
                request = request
                    .header("sec-fetch-site", site)
                    .header("sec-fetch-mode", "navigate")
                    .header("sec-fetch-dest", "document");
            }
            RequestBody::Empty
        };
        let page = send(&self.client, request.body(body).unwrap()).await;
        self.keep(&origin, &page);
        page
    }

    fn keep(&mut self, origin: &str, page: &Page) {
        for value in page.headers.get_all(header::SET_COOKIE) {
            let text = value.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            let key = format!("{origin} {name}");
            if rest.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }

    /// Logs in on the page and opens the consent page.
    pub(crate) async fn sign_in(&mut self, page: &Page, user: &str, password: &str) -> Page {
        let form = page.field("form");
        let answer = self
            .post(&page.action(), &[("form", &form), ("username", user), ("password", password)])
            .await;
        match answer.onward() {
            Some(next) => self.get(&next).await,
            None => answer,
        }
    }

    /// Submits a decision on the consent page.
    pub(crate) async fn decide(&mut self, page: &Page, decision: &str) -> Page {
        let form = page.field("form");
        self.post(&page.action(), &[("form", &form), ("decision", decision)]).await
    }
}
