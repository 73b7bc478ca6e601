//! Who we are to the outside: every link is made from the configured `public_url`, never from a request.

use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::service::Service;

/// The public side of the gateway.
#[derive(Clone, Debug)]
pub struct PublicUrls {
    public: ExactUrl,
    base: String,
    names: Vec<(String, BaseUrl)>,
    /// Proxies whose word is taken for whom a request comes from; for limits only, never for a link.
    pub trusted_proxies: Vec<Cidr>,
}

/// A host under which we were called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl PublicUrls {
    /// A site at `public`, also answering to `allowed_hosts` (`host[:port]`). A loopback `public` answers to
    /// `localhost`, `127.0.0.1` and `[::1]` on its port: a closed list.
    pub fn new(public: ExactUrl, allowed_hosts: Vec<String>) -> Self {
        let base = public.as_str().trim_end_matches('/').to_owned();
        let url = public.url();
        let authority = |name: &str| url.port().map_or(name.to_owned(), |port| format!("{name}:{port}"));
        let alias = |host: String| {
            (
                host.clone(),
                BaseUrl(format!("{}://{host}{}", url.scheme(), url.path().trim_end_matches('/'))),
            )
        };
        let own = url.host_str().unwrap_or("");
        let mut names = vec![(authority(own), BaseUrl(base.clone()))];
        if let Some(port) = url.port_or_known_default() {
            names.push((format!("{own}:{port}"), BaseUrl(base.clone())));
        }
        if public.is_loopback() {
            names.extend(["localhost", "127.0.0.1", "[::1]"].into_iter().map(|name| alias(authority(name))));
        }
        names.extend(allowed_hosts.into_iter().map(alias));
        Self {
            public,
            base,
            names,
            trusted_proxies: Vec::new(),
        }
    }

    /// The same site behind these proxies.
    #[must_use]
    pub fn with_trusted_proxies(mut self, trusted_proxies: Vec<Cidr>) -> Self {
        self.trusted_proxies = trusted_proxies;
        self
    }

    /// Whether a `Host` or `:authority` is ours, and which of our names it is.
    pub fn find_base(&self, host: &str) -> Option<&BaseUrl> {
        self.names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(host))
            .map(|(_, called)| called)
    }

    /// The name in the configuration.
    pub fn canonical(&self) -> BaseUrl {
        BaseUrl(self.base.clone())
    }

    /// The configured address.
    pub fn public_url(&self) -> &str {
        &self.base
    }

    /// The path before every path of ours, without a slash at its end; mostly empty.
    pub fn prefix(&self) -> &str {
        self.public.url().path().trim_end_matches('/')
    }

    /// Served over https, to the browser's eye.
    pub fn is_https(&self) -> bool {
        self.public.url().scheme() == "https"
    }

    /// Bound to this machine.
    pub fn is_loopback(&self) -> bool {
        self.public.is_loopback()
    }

    /// The port that tells cookies of two gateways on one host apart.
    pub fn port(&self) -> u16 {
        self.public.url().port_or_known_default().unwrap_or(0)
    }

    /// Where the upstream of a service sends the browser back to: one address, to be registered there.
    pub fn upstream_callback(&self, service: &Service) -> String {
        if service.is_default {
            format!("{}/upstream/callback", self.base)
        } else {
            format!("{}/upstream/callback/{}", self.base, service.name)
        }
    }

    /// Where an identity provider sends the browser back to: one address for each, to be registered there.
    pub fn login_callback(&self, idp: &str) -> String {
        format!("{}/login/callback/{idp}", self.base)
    }

    /// The one address of a service, whatever alias is used: the audience of its tokens, and the issuer of what is said to
    /// its backend.
    pub fn service_url(&self, service: &Service) -> String {
        format!("{}/mcp/{}", self.base, service.name)
    }

    /// Whether this service is an issuer of that name, under any of our names.
    pub fn is_issuer(&self, service: &Service, text: &str) -> bool {
        let behind = |(_, called): &(String, BaseUrl)| text.strip_prefix(called.base());
        self.names.iter().filter_map(behind).any(|behind| {
            let named = behind.strip_prefix("/mcp/").is_some_and(|name| name == service.name);
            named || (behind.is_empty() && service.is_default)
        })
    }

    /// The MCP endpoint of a service, as it is told to people.
    pub fn mcp_endpoint(&self, service: &Service) -> String {
        if service.is_default {
            format!("{}/mcp", self.base)
        } else {
            format!("{}/mcp/{}", self.base, service.name)
        }
    }
}

impl BaseUrl {
    /// The start of every address of ours under this name, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.0
    }

    /// Origin and path prefix.
    pub fn parts(&self) -> (&str, &str) {
        let after = self.0.find("://").map_or(0, |i| i + 3);
        self.0[after..].find('/').map_or((&self.0, ""), |i| self.0.split_at(after + i))
    }

    /// Its `host[:port]`.
    pub fn authority(&self) -> &str {
        let after = self.0.find("://").map_or(0, |i| i + 3);
        self.0[after..].split('/').next().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(public: &str) -> PublicUrls {
        PublicUrls::new(ExactUrl::parse(public).unwrap(), vec!["other.example.com".into()])
    }

    #[test]
    fn a_loopback_gateway_answers_to_three_names_and_no_others() {
        let site = site("http://localhost:8002");
        assert_eq!(site.find_base("127.0.0.1:8002").unwrap().base(), "http://127.0.0.1:8002");
        assert!(site.find_base("[::1]:8002").is_some() && site.find_base("LOCALHOST:8002").is_some());
        assert!(
            site.find_base("evil.com").is_none() && site.find_base("localhost").is_none() && site.find_base("127.0.0.2:8002").is_none()
        );
    }

    #[test]
    fn a_public_gateway_answers_to_its_own_name_and_to_listed_ones() {
        let site = site("https://gw.example.com/base/");
        assert!(site.find_base("gw.example.com").is_some() && site.find_base("gw.example.com:443").is_some());
        assert!(site.find_base("localhost").is_none());
        assert_eq!(
            site.find_base("other.example.com").unwrap().base(),
            "https://other.example.com/base"
        );
        assert_eq!(site.canonical().parts(), ("https://gw.example.com", "/base"));
    }
}
