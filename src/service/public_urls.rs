//! The gateway's public URLs. They are made from the configured `public_url`, never from a request.

use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::service::Service;

/// The gateway's public URLs and host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrls {
    public: ExactUrl,
    base: String,
    names: Vec<(String, BaseUrl)>,
    /// Proxies whose forwarded client address is believed, for limits only and never for a link.
    pub trusted_proxies: Vec<Cidr>,
}

/// A base URL of the gateway, under one of its host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl PublicUrls {
    /// URLs at `public`, and at each of `allowed_hosts` (`host[:port]`). If `public` is loopback,
    /// `localhost`, `127.0.0.1` and `[::1]` are accepted on its port, and no other loopback name.
    pub fn new(public: ExactUrl, allowed_hosts: Vec<String>) -> Self {
        let base = public.as_str().trim_end_matches('/').to_owned();
        let url = public.url();
        let authority = |name: &str| url.port().map_or(name.to_owned(), |port| format!("{name}:{port}"));
        // Under each spelling of `Host`, links have the form that browsers use in `Origin`.
        let alias = |host: String| {
            let alias = ExactUrl::parse(&format!("{}://{host}{}", url.scheme(), url.path().trim_end_matches('/'))).ok();
            let names = alias.map(|alias| {
                let (alias_url, base) = (alias.url(), alias.with_normalized_origin());
                let base = BaseUrl(base.as_str().trim_end_matches('/').to_owned());
                let port = alias_url.port_or_known_default().unwrap_or(0);
                let with_port = format!("{}:{port}", alias_url.host_str().unwrap_or(""));
                [(alias.host_and_port(), base.clone()), (with_port, base)]
            });
            names.into_iter().flatten()
        };
        let own_host = url.host_str().unwrap_or("");
        let mut names = vec![(authority(own_host), BaseUrl(base.clone()))];
        if let Some(port) = url.port_or_known_default() {
            names.push((format!("{own_host}:{port}"), BaseUrl(base.clone())));
        }
        if public.is_loopback() {
            names.extend(
                ["localhost", "127.0.0.1", "[::1]"]
                    .into_iter()
                    .flat_map(|name| alias(authority(name))),
            );
        }
        names.extend(allowed_hosts.into_iter().flat_map(alias));
        Self {
            public,
            base,
            names,
            trusted_proxies: Vec::new(),
        }
    }

    /// The same URLs, with these trusted proxies.
    #[must_use]
    pub fn with_trusted_proxies(mut self, trusted_proxies: Vec<Cidr>) -> Self {
        self.trusted_proxies = trusted_proxies;
        self
    }

    /// The base URL for a `Host` or `:authority`, if the gateway has this name.
    pub fn find_base(&self, host: &str) -> Option<&BaseUrl> {
        self.names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(host))
            .map(|(_, base_url)| base_url)
    }

    /// The configured base URL.
    pub fn canonical(&self) -> BaseUrl {
        BaseUrl(self.base.clone())
    }

    /// The configured `public_url`, without a slash at its end.
    pub fn public_url(&self) -> &str {
        &self.base
    }

    /// The path prefix of the public URL, without a slash at its end; usually empty.
    pub fn prefix(&self) -> &str {
        self.public.url().path().trim_end_matches('/')
    }

    /// Whether browsers reach the gateway by https.
    pub fn is_https(&self) -> bool {
        self.public.url().scheme() == "https"
    }

    /// Whether the public URL is on loopback.
    pub fn is_loopback(&self) -> bool {
        self.public.is_loopback()
    }

    /// The public port. It separates the cookies of two gateways on one host.
    pub fn port(&self) -> u16 {
        self.public.url().port_or_known_default().unwrap_or(0)
    }

    /// The redirect URI at the upstream AS of a service. There is one, to be registered there.
    pub fn upstream_callback(&self, service: &Service) -> String {
        if service.is_default {
            format!("{}/upstream/callback", self.base)
        } else {
            format!("{}/upstream/callback/{}", self.base, service.name)
        }
    }

    /// The gateway's client metadata document for the upstream AS of a service. Each service has its own, so
    /// that no upstream learns of another.
    pub fn client_document(&self, service: &Service) -> String {
        if service.is_default {
            format!("{}/upstream/client", self.base)
        } else {
            format!("{}/upstream/client/{}", self.base, service.name)
        }
    }

    /// The redirect URI at an identity provider. Each provider has one, to be registered there.
    pub fn login_callback(&self, idp: &str) -> String {
        format!("{}/login/callback/{idp}", self.base)
    }

    /// The service's URL, the same under every alias. It is the issuer of user assertions for its backend.
    pub fn service_url(&self, service: &Service) -> String {
        format!("{}/mcp/{}", self.base, service.name)
    }

    /// The audience of the service's tokens: the resource of an external service, else the service's URL.
    pub fn audience(&self, service: &Service) -> String {
        if service.is_external() {
            service.mcp.to_string()
        } else {
            self.service_url(service)
        }
    }

    /// Whether `text` is an issuer of this service under any of the gateway's names.
    pub fn is_issuer(&self, service: &Service, text: &str) -> bool {
        let path_after = |(_, base_url): &(String, BaseUrl)| text.strip_prefix(base_url.base());
        self.names.iter().filter_map(path_after).any(|path| {
            let is_named = path.strip_prefix("/mcp/").is_some_and(|name| name == service.name);
            is_named || (path.is_empty() && service.is_default)
        })
    }

    /// The MCP endpoint of a service, in its short form if it is the default service.
    pub fn mcp_endpoint(&self, service: &Service) -> String {
        if service.is_default {
            format!("{}/mcp", self.base)
        } else {
            format!("{}/mcp/{}", self.base, service.name)
        }
    }
}

impl BaseUrl {
    /// The base URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.0
    }

    /// Splits the base URL into origin and path prefix.
    pub fn parts(&self) -> (&str, &str) {
        let start = self.0.find("://").map_or(0, |i| i + 3);
        self.0[start..].find('/').map_or((&self.0, ""), |i| self.0.split_at(start + i))
    }

    /// The base URL's `host[:port]`.
    pub fn authority(&self) -> &str {
        let start = self.0.find("://").map_or(0, |i| i + 3);
        self.0[start..].split('/').next().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(public: &str) -> PublicUrls {
        PublicUrls::new(ExactUrl::parse(public).unwrap(), vec!["other.example.com".into()])
    }

    #[test]
    fn a_loopback_gateway_accepts_three_host_names_and_no_others() {
        let urls = site("http://localhost:8002");
        assert_eq!(urls.find_base("127.0.0.1:8002").unwrap().base(), "http://127.0.0.1:8002");
        assert!(urls.find_base("[::1]:8002").is_some() && urls.find_base("LOCALHOST:8002").is_some());
        assert!(
            urls.find_base("evil.com").is_none() && urls.find_base("localhost").is_none() && urls.find_base("127.0.0.2:8002").is_none()
        );
    }

    #[test]
    fn a_public_gateway_accepts_its_own_and_listed_host_names() {
        let urls = site("https://gw.example.com/base/");
        assert!(urls.find_base("gw.example.com").is_some() && urls.find_base("gw.example.com:443").is_some());
        assert!(urls.find_base("localhost").is_none());
        assert_eq!(
            urls.find_base("other.example.com").unwrap().base(),
            "https://other.example.com/base"
        );
        let of = |host: &str| site("https://gw.example.com").find_base(host).map(|base| base.base().to_owned());
        assert_eq!(of("other.example.com:443").as_deref(), Some("https://other.example.com"));
        assert_eq!(of("other.example.com:8443"), None);
        assert_eq!(of("other.example.com").as_deref(), Some("https://other.example.com"));
        assert_eq!(urls.canonical().parts(), ("https://gw.example.com", "/base"));
    }
}
