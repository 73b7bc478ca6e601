//! The HTML pages. Each is a view struct and a template, and templates escape text from outside.
//!
//! The page of approvals runs a script in a session; no other page runs one. A form is answered by
//! [`ContinuePage`], not by a redirect: Chrome applies `form-action` to every hop after a form post, and so
//! blocks redirects to clients and upstreams.

use std::fmt::Write;

use askama::Template;

use crate::app::runtime_config::UpstreamLogin;

/// The content security policy of pages: no scripts, no frames, forms to this gateway only.
pub const CSP: &str =
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The content security policy of the page of approvals in a session: the gateway's own script, which asks
/// the gateway for the page again.
pub const CSP_WITH_SCRIPT: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every page. `Cross-Origin-Opener-Policy` is absent: it breaks clients' popups.
pub const HEADERS: [(&str, &str); 7] = [
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", CSP),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What pages load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    /// The stylesheet of all pages.
    Style,
    /// The script of the page of approvals.
    ApprovalsScript,
}

impl Asset {
    /// The path, below the path prefix of the public URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Style => "/assets/style.css",
            Self::ApprovalsScript => "/assets/approvals.js",
        }
    }

    /// The text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Style => include_str!("../../templates/style.css"),
            Self::ApprovalsScript => include_str!("../../templates/approvals.js"),
        }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Style => "text/css; charset=utf-8",
            Self::ApprovalsScript => "text/javascript; charset=utf-8",
        }
    }
}

/// The length to which a name is shortened, in characters.
const MAX_NAME_CHARS: usize = 80;

/// The client, as the pages show it. An attacker may have chosen every value.
#[derive(Clone, Copy, Debug)]
pub struct ClientView<'a> {
    /// The client's name for itself, if any.
    pub name: Option<&'a str>,
    /// `host[:port]` of the client's metadata document, if it vouches for the client.
    pub verified_host: Option<&'a str>,
    /// Whether the operator configured the client, and with it the name.
    pub configured: bool,
    /// `host[:port]` of the redirect URI, or an app's scheme, such as `cursor://`.
    pub redirect_host: &'a str,
    /// The whole redirect URI, which the page shows on demand.
    pub redirect_uri: &'a str,
    /// Whether the redirect URI has a private-use scheme.
    pub is_app_scheme: bool,
    /// Whether the redirect URI is on this computer.
    pub loopback: bool,
}

/// The sign-in at the upstream, as the pages name it: "at" a host, or "for" a service.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLoginView<'a> {
    /// Whether `name` is the host of the sign-in page. Otherwise it is the service's display name.
    pub is_host: bool,
    /// `host[:port]`, or the service's display name.
    pub name: &'a str,
}

impl<'a> From<&'a UpstreamLogin> for UpstreamLoginView<'a> {
    fn from(login: &'a UpstreamLogin) -> Self {
        let (is_host, name) = match login {
            UpstreamLogin::At(host) => (true, host),
            UpstreamLogin::For(service) => (false, service),
        };
        Self { is_host, name }
    }
}

/// The first step: the user enters the password of this gateway.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "sign_in.html")]
pub struct LoginPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The URL that the form is posted to.
    pub action: &'a str,
    /// The client that wants access.
    pub client: ClientView<'a>,
    /// The display name of the service.
    pub service: &'a str,
    /// The sign-in at the upstream, the third step, if there is one.
    pub upstream_login: Option<UpstreamLoginView<'a>>,
    /// The reason why the last try failed.
    pub problem: Option<&'a str>,
    /// The prefilled user name; empty on the first try.
    pub username: &'a str,
    /// The hidden field `form`, which binds the post to the flow and the browser.
    pub token: &'a str,
    /// The time for which the user must wait before the next try, in seconds.
    pub wait_seconds: Option<u64>,
}

/// The first step, if an identity provider signs the user in: the button to the provider.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "provider.html")]
pub struct ProviderPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The URL that the form is posted to.
    pub action: &'a str,
    /// The client that wants access.
    pub client: ClientView<'a>,
    /// The display name of the service.
    pub service: &'a str,
    /// The provider's display name.
    pub provider: &'a str,
    /// The sign-in at the upstream, the third step, if there is one.
    pub upstream_login: Option<UpstreamLoginView<'a>>,
    /// The hidden field `form`, which binds the post to the flow and the browser.
    pub token: &'a str,
}

/// The second step: the user decides whether this client may act for them.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "consent.html")]
pub struct ConsentPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The URL that the form is posted to.
    pub action: &'a str,
    /// The client that wants access.
    pub client: ClientView<'a>,
    /// The display name of the service.
    pub service: &'a str,
    /// The sign-in at the upstream, the third step, if there is one.
    pub upstream_login: Option<UpstreamLoginView<'a>>,
    /// `host[:port]` of the authorization server that the upstream named before, if it changed lately.
    pub previous_auth_server: Option<&'a str>,
    /// The upstream's scopes; if empty, the service's default access.
    pub scopes: &'a [String],
    /// The signed-in user; empty if the service has no login.
    pub user: &'a str,
    /// The hidden field `form`, which binds the post to the flow and the browser.
    pub token: &'a str,
    /// Whether all redirect URIs of the client are on this computer.
    pub loopback_only: bool,
    /// Whether every app uses one credential of the service, which the gateway has.
    pub uses_stored_credential: bool,
    /// The URL of a server that the gateway does not proxy, if nobody vouches for it.
    pub unproven_resource: Option<&'a str>,
    /// The field for the upstream's key, if users paste one.
    pub key: Option<CredentialField<'a>>,
}

/// The field for a key of the upstream. No page shows a pasted key, so the field starts empty.
#[derive(Clone, Copy, Debug)]
pub struct CredentialField<'a> {
    /// The host that gets the key.
    pub host: &'a str,
    /// The header that the key is sent in.
    pub header: &'a str,
    /// The operator's hint; may be empty.
    pub hint: &'a str,
    /// Whether the client can read the key in its token.
    pub readable: bool,
    /// The reason why the last key was refused.
    pub problem: Option<&'a str>,
}

/// The error page: what happened, why, and what the user can do.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "error.html")]
pub struct ErrorPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The heading.
    pub title: &'a str,
    /// What happened.
    pub what: &'a str,
    /// The reason; may be empty.
    pub why: &'a str,
    /// What the user can do; may be empty.
    pub todo: &'a str,
    /// The reference that the log has too; may be empty.
    pub reference: &'a str,
    /// A link back to the client, which the user may follow.
    pub back: Option<ReturnLink<'a>>,
}

/// A link back to the client. An automatic redirect would make the gateway an open redirector.
#[derive(Clone, Copy, Debug)]
pub struct ReturnLink<'a> {
    /// The whole URL.
    pub href: &'a str,
    /// Its host or scheme, for display.
    pub host: &'a str,
}

/// The response to a form: a page that sends the browser on with a GET.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "continue.html")]
pub struct ContinuePage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// The next address: an absolute URL, or a path of this gateway.
    pub href: &'a str,
    /// Its host or scheme, for display.
    pub host: &'a str,
    /// Whether the page says that the window can be closed, because it may stay open.
    pub closing: bool,
}

/// The last page of a flow, without a next address.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "closed.html")]
pub struct ClosedPage<'a> {
    /// The path prefix of the public URL, without a slash at its end; may be empty.
    pub base: &'a str,
    /// What happened.
    pub what: &'a str,
}

impl LoginPage<'_> {
    fn has_problem(&self) -> bool {
        self.problem.is_some() || self.wait_seconds.is_some()
    }
}

impl ConsentPage<'_> {
    fn has_problem(&self) -> bool {
        self.key.is_some_and(|key| key.problem.is_some())
    }

    fn is_loopback(&self) -> bool {
        self.loopback_only || self.client.loopback
    }
}

/// Renders the login page.
pub fn sign_in(view: &LoginPage<'_>) -> String {
    render(view)
}

/// Renders the page that leads to an identity provider.
pub fn to_provider(view: &ProviderPage<'_>) -> String {
    render(view)
}

/// Renders the consent page.
pub fn consent(view: &ConsentPage<'_>) -> String {
    render(view)
}

/// Renders the error page.
pub fn error(view: &ErrorPage<'_>) -> String {
    render(view)
}

/// Renders the page between a form and the next address.
pub fn continue_to(view: &ContinuePage<'_>) -> String {
    render(view)
}

/// Renders the page "You can close this window".
pub fn closed(view: &ClosedPage<'_>) -> String {
    render(view)
}

fn render(page: &impl Template) -> String {
    page.render().expect("writing to a string does not fail")
}

/// Spells out characters that hide or reorder text, and shortens a long name.
pub fn escape_hidden(text: &str) -> String {
    let mut output = String::new();
    let (mut length, mut end) = (0, 0);
    for c in text.chars() {
        if length < MAX_NAME_CHARS {
            end = output.len();
        }
        let start = output.len();
        spell(c, &mut output);
        length += output[start..].chars().count();
        if length > MAX_NAME_CHARS {
            output.truncate(end);
            output.push('…');
            return output;
        }
    }
    output
}

/// Like [`escape_hidden`], but never shortened: only the end of a host or URL may differ.
pub fn visible_whole(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    text.chars().for_each(|c| spell(c, &mut output));
    output
}

fn spell(c: char, output: &mut String) {
    if is_hidden_char(c) {
        write!(output, "[U+{:04X}]", u32::from(c)).expect("writing to a string does not fail");
    } else if c.is_whitespace() {
        output.push(' '); // wide spaces would hide the rest of a name; HTML folds plain ones
    } else {
        output.push(c);
    }
}

/// Whether a character is a control, bidi, zero-width, filler, tag or private-use character.
fn is_hidden_char(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// The URL, if a browser may follow it, or `about:blank`. This repeats the callers' own check.
fn safe_href(href: &str) -> &str {
    const NOWHERE: &str = "about:blank";
    if href.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return NOWHERE;
    }
    if href.starts_with('/') && !href[1..].starts_with(['/', '\\']) {
        return href;
    }
    let Some((scheme, _)) = href.split_once(':') else {
        return NOWHERE;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let unsafe_schemes = ["javascript", "data", "vbscript", "blob", "file", "filesystem", "view-source"];
    if is_scheme
        && !unsafe_schemes
            .iter()
            .any(|unsafe_scheme| scheme.eq_ignore_ascii_case(unsafe_scheme))
    {
        href
    } else {
        NOWHERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 6] = [
        "\"><script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        "</title><style>*{display:none}</style>",
        "Claude\u{202e}gpj.exe\u{200b}\u{feff}",
        "nul\0bell\u{7}line\nend",
        "{{ 7*7 }} &lt;b&gt; javascript:alert(1)",
    ];

    fn client(text: &str) -> ClientView<'_> {
        ClientView {
            name: Some(text),
            verified_host: None,
            configured: false,
            redirect_host: text,
            redirect_uri: text,
            is_app_scheme: false,
            loopback: false,
        }
    }

    fn sign_in_view(text: &str) -> LoginPage<'_> {
        LoginPage {
            base: "",
            action: text,
            client: client(text),
            service: text,
            upstream_login: Some(UpstreamLoginView { is_host: true, name: text }),
            problem: Some(text),
            username: text,
            token: text,
            wait_seconds: Some(5),
        }
    }

    fn provider_view(text: &str) -> ProviderPage<'_> {
        ProviderPage {
            base: "",
            action: text,
            client: client(text),
            service: text,
            provider: text,
            upstream_login: Some(UpstreamLoginView { is_host: true, name: text }),
            token: text,
        }
    }

    fn consent_view<'a>(text: &'a str, scopes: &'a [String]) -> ConsentPage<'a> {
        ConsentPage {
            base: "",
            action: text,
            client: client(text),
            service: text,
            upstream_login: Some(UpstreamLoginView { is_host: true, name: text }),
            previous_auth_server: Some(text),
            scopes,
            user: text,
            token: text,
            loopback_only: true,
            uses_stored_credential: false,
            unproven_resource: None,
            key: None,
        }
    }

    fn key_field(text: &str) -> CredentialField<'_> {
        CredentialField {
            host: text,
            header: text,
            hint: text,
            readable: false,
            problem: Some(text),
        }
    }

    fn error_view(text: &str) -> ErrorPage<'_> {
        ErrorPage {
            base: "",
            title: text,
            what: text,
            why: text,
            todo: text,
            reference: text,
            back: Some(ReturnLink { href: text, host: text }),
        }
    }

    fn continue_view(text: &str) -> ContinuePage<'_> {
        ContinuePage {
            base: "",
            href: text,
            host: text,
            closing: true,
        }
    }

    fn every_page(text: &str) -> Vec<String> {
        let scopes = [text.to_owned()];
        let verified = ClientView {
            verified_host: Some(text),
            configured: false,
            is_app_scheme: true,
            ..client(text)
        };
        let unnamed = ClientView {
            name: None,
            ..client(text)
        };
        vec![
            sign_in(&sign_in_view(text)),
            sign_in(&LoginPage {
                client: unnamed,
                problem: None,
                wait_seconds: None,
                ..sign_in_view(text)
            }),
            to_provider(&provider_view(text)),
            consent(&consent_view(text, &scopes)),
            consent(&ConsentPage {
                client: verified,
                loopback_only: false,
                ..consent_view(text, &scopes)
            }),
            consent(&ConsentPage {
                upstream_login: None,
                key: Some(key_field(text)),
                ..consent_view(text, &scopes)
            }),
            error(&error_view(text)),
            continue_to(&continue_view(text)),
            closed(&ClosedPage { base: "", what: text }),
        ]
    }

    /// The element names of a page, in order. Text from outside must never change them.
    fn elements(page: &str) -> Vec<&str> {
        page.split('<')
            .skip(1)
            .map(|rest| rest.split([' ', '>', '\n']).next().unwrap_or(""))
            .collect()
    }

    #[test]
    fn hostile_text_adds_no_element_to_any_page() {
        let harmless: Vec<String> = every_page("calm");
        for text in HOSTILE {
            for (page, harmless) in every_page(text).iter().zip(&harmless) {
                assert_eq!(elements(page), elements(harmless), "{text:?}\n{page}");
            }
        }
    }

    #[test]
    fn hostile_text_adds_no_attribute_to_any_page() {
        let quotes = |page: &str| page.matches('"').count();
        let harmless: Vec<String> = every_page("calm");
        for text in HOSTILE {
            for (page, harmless) in every_page(text).iter().zip(&harmless) {
                assert_eq!(quotes(page), quotes(harmless), "{text:?}\n{page}");
                assert!(!page.contains('\''), "an attribute in single quotes is easily left: {page}");
            }
        }
    }

    #[test]
    fn no_page_contains_inline_script_or_style() {
        for page in HOSTILE.iter().chain(&["calm"]).flat_map(|text| every_page(text)) {
            for inline in ["<script", "<style", " style=", " onclick=", " onload=", "<iframe", "<img"] {
                assert!(!page.contains(inline), "{inline} in {page}");
            }
        }
    }

    #[test]
    fn every_page_declares_its_language_one_title_and_one_heading() {
        for page in every_page("calm") {
            assert!(page.starts_with("<!doctype html>\n<html lang=\"en\" dir=\"ltr\">"), "{page}");
            for element in ["<h1>", "<title>", "<main>", "rel=\"stylesheet\"", "name=\"viewport\""] {
                assert_eq!(page.matches(element).count(), 1, "{element} in {page}");
            }
        }
    }

    #[test]
    fn pages_link_the_stylesheet_below_the_base_path() {
        let page = closed(&ClosedPage { base: "/gw", what: "" });
        assert!(page.contains(&format!("href=\"/gw{}\"", Asset::Style.path())));
    }

    #[test]
    fn hidden_and_bidirectional_characters_are_shown_as_code_points() {
        assert_eq!(escape_hidden("a\u{202e}b"), "a[U+202E]b");
        assert_eq!(escape_hidden("a\0\n\u{7f}\u{85}"), "a[U+0000][U+000A][U+007F][U+0085]");
        for c in [
            '\u{61c}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2066}',
            '\u{2069}',
            '\u{3164}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(visible_whole(&c.to_string()), format!("[U+{:04X}]", u32::from(c)));
        }
        for plain in ["Claude Desktop", "Ωμέγα 智能 שלום", "Zoë’s ⚙\u{fe0f} tool"] {
            assert_eq!(escape_hidden(plain), plain);
        }
    }

    #[test]
    fn no_page_holds_a_raw_control_or_bidi_character() {
        for page in ["a\u{202e}b", "a\0b", "a\u{2066}b\u{7}"].into_iter().flat_map(|text| {
            let scopes = [text.to_owned()];
            let client_view = client(text);
            [
                sign_in(&LoginPage {
                    action: "/a",
                    token: "t",
                    ..sign_in_view(text)
                }),
                consent(&ConsentPage {
                    action: "/a",
                    token: "t",
                    client: client_view,
                    ..consent_view(text, &scopes)
                }),
                error(&error_view(text)),
                continue_to(&continue_view(text)),
            ]
        }) {
            assert!(!page.chars().any(|c| c != '\n' && is_hidden_char(c)), "{page:?}");
        }
    }

    #[test]
    fn a_long_name_is_shortened_and_a_long_host_is_not() {
        let long = "x".repeat(200);
        assert_eq!(escape_hidden(&long), format!("{}…", "x".repeat(79)));
        assert_eq!(escape_hidden(&long[..80]), &long[..80]);
        assert_eq!(visible_whole(&long), long);
        let marked = escape_hidden(&"\u{202e}".repeat(50));
        assert!(marked.ends_with("[U+202E]…") && marked.chars().count() <= 80, "{marked}");
    }

    #[test]
    fn wide_spaces_are_replaced_with_plain_spaces() {
        assert_eq!(escape_hidden("a\u{3000}\u{a0}\u{2003}b"), "a   b");
    }

    #[test]
    fn only_safe_url_schemes_become_links() {
        for allowed in [
            "https://a.example/cb?code=1&state=2",
            "http://127.0.0.1:1/",
            "cursor://cb?x",
            "com.example.app:/cb",
            "/gw/consent?flow=1",
        ] {
            assert_eq!(safe_href(allowed), allowed);
        }
        for rejected in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\tscript:alert(1)",
            " javascript:alert(1)",
            "\0javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "blob:x",
            "file:///etc/passwd",
            "//evil.example/",
            "/\\evil.example/",
            "evil",
            "",
            "'javascript:x",
        ] {
            assert_eq!(safe_href(rejected), "about:blank", "{rejected:?}");
            assert!(
                !continue_to(&ContinuePage {
                    href: rejected,
                    ..continue_view("host")
                })
                .to_lowercase()
                .contains("script:")
            );
            let return_link = Some(ReturnLink {
                href: rejected,
                host: "host",
            });
            assert!(
                !error(&ErrorPage {
                    back: return_link,
                    ..error_view("x")
                })
                .to_lowercase()
                .contains("script:")
            );
        }
    }

    #[test]
    fn the_continue_page_redirects_without_script_and_shows_its_link() {
        let page = continue_to(&ContinuePage {
            href: "https://a.example/cb?code=1&state=2",
            host: "a.example",
            base: "",
            closing: false,
        });
        assert!(
            page.contains("<meta http-equiv=\"refresh\" content=\"0;url=https://a.example/cb?code=1&#38;state=2\">"),
            "{page}"
        );
        assert!(
            page.contains("href=\"https://a.example/cb?code=1&#38;state=2\">Continue to <bdi>a.example</bdi></a>"),
            "{page}"
        );
    }

    #[test]
    fn the_consent_page_names_client_host_service_scopes_user_and_login() {
        let scopes = ["repo".to_owned(), "read:org".to_owned()];
        let page = consent(&ConsentPage {
            base: "",
            action: "/consent",
            client: ClientView {
                name: Some("Claude"),
                verified_host: None,
                configured: false,
                redirect_host: "claude.ai",
                redirect_uri: "https://claude.ai/api/cb",
                is_app_scheme: false,
                loopback: false,
            },
            service: "Tickets",
            upstream_login: Some(UpstreamLoginView {
                is_host: true,
                name: "github.com",
            }),
            previous_auth_server: None,
            scopes: &scopes,
            user: "ada",
            token: "t0",
            loopback_only: false,
            uses_stored_credential: false,
            unproven_resource: None,
            key: None,
        });
        for part in [
            "“<bdi>Claude</bdi>”",
            "Unverified:",
            "this is the name the app gave itself",
            "<bdi>claude.ai</bdi>",
            "https://claude.ai/api/cb",
            "Tickets",
            "<bdi>repo</bdi>",
            "<bdi>read:org</bdi>",
            "<bdi>ada</bdi>",
            "Sign in at <bdi>github.com</bdi>",
            "name=\"form\" value=\"t0\"",
            "name=\"decision\" value=\"approve\">Allow<",
            "formnovalidate name=\"decision\" value=\"deny\">Cancel<",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("any program on this computer"));
    }

    #[test]
    fn the_consent_page_warns_of_loopback_and_app_scheme_redirects() {
        let view = consent_view("x", &[]);
        assert!(consent(&view).contains("any program on this computer can receive it"));
        let loopback = ClientView {
            loopback: true,
            ..client("x")
        };
        assert!(
            consent(&ConsentPage {
                client: loopback,
                loopback_only: false,
                ..view
            })
            .contains("any program on this computer")
        );
        let scheme = ClientView {
            is_app_scheme: true,
            ..client("x")
        };
        assert!(
            consent(&ConsentPage {
                client: scheme,
                loopback_only: false,
                ..view
            })
            .contains("Any app on this device")
        );
    }

    #[test]
    fn a_verified_host_with_a_local_redirect_is_only_partly_verified() {
        let verified = ClientView {
            verified_host: Some("claude.ai"),
            configured: false,
            ..client("Claude")
        };
        let render_page = |client| {
            sign_in(&LoginPage {
                client,
                ..sign_in_view("x")
            })
        };
        assert!(render_page(verified).contains("<strong>Verified:</strong> <bdi>claude.ai</bdi>"));
        for local_client in [
            ClientView {
                loopback: true,
                ..verified
            },
            ClientView {
                is_app_scheme: true,
                ..verified
            },
        ] {
            let page = render_page(local_client);
            assert!(page.contains("Partly verified:") && !page.contains(">Verified:"), "{page}");
        }
    }

    #[test]
    fn the_consent_page_mentions_no_upstream_login_if_none_follows() {
        let page = consent(&ConsentPage {
            upstream_login: None,
            ..consent_view("x", &[])
        });
        assert!(page.contains("the service’s default access"));
        assert!(page.contains("You go straight back to the app.") && !page.contains("Sign in at"));
    }

    #[test]
    fn the_key_field_names_host_and_header_and_stays_empty() {
        let render_page = |problem, readable| {
            let key = CredentialField {
                host: "legacy.example",
                header: "x-api-key",
                hint: "You find it under Settings.",
                readable,
                problem,
            };
            consent(&ConsentPage {
                upstream_login: None,
                key: Some(key),
                ..consent_view("x", &[])
            })
        };
        let page = render_page(None, false);
        for part in [
            "<label for=\"credential\">Your key for <bdi>legacy.example</bdi></label>",
            "type=\"password\" autocomplete=\"off\"",
            "<code><bdi>x-api-key</bdi></code>",
            "You find it under Settings.",
            "The app itself does not see it.",
            // An empty field does not prevent the user from denying.
            "formnovalidate name=\"decision\" value=\"deny\"",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("role=\"alert\""));
        let field = page.split("<input").find(|tag| tag.contains("name=\"credential\"")).unwrap();
        assert!(!field.split('>').next().unwrap().contains("value="), "{field}");
        let page = render_page(Some("it does not take this key"), true);
        assert!(page.contains("<title>Problem:") && page.contains("role=\"alert\"") && page.contains("The app can read it."));
    }

    #[test]
    fn a_login_error_is_announced_and_leaves_the_password_empty() {
        let page = sign_in(&LoginPage {
            problem: Some("That did not match."),
            username: "ada",
            ..sign_in_view("x")
        });
        assert!(page.contains("role=\"alert\"") && page.contains("aria-live=\"assertive\""));
        assert!(page.contains("That did not match.") && page.contains("Please wait 5 seconds"));
        assert!(page.contains("autocomplete=\"username\"") && page.contains("autocomplete=\"current-password\""));
        let password = page.split("<input").find(|input| input.contains("type=\"password\"")).unwrap_or("");
        assert!(!password.contains("value="), "{password}");
    }

    #[test]
    fn every_login_field_has_a_label() {
        let page = sign_in(&sign_in_view("x"));
        for field in ["username", "password"] {
            assert!(page.contains(&format!("<label for=\"{field}\">")) && page.contains(&format!("id=\"{field}\" name=\"{field}\"")));
        }
    }

    #[test]
    fn the_stylesheet_loads_no_external_resources() {
        assert!(!Asset::Style.text().contains("url(") && !Asset::Style.text().contains("@import"));
    }
}
