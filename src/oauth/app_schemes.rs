//! Private-use schemes without a dot of apps that are known to use them. RFC 8252 §7.1 wants reverse domain
//! names; these apps are older than their wish to sign in. Data only, with sources.

/// Scheme, and where it was seen.
const KNOWN: [(&str, &str); 24] = [
    ("antigravity", "Google Antigravity, the URL handler of the app"),
    ("cherrystudio", "Cherry Studio, the URL handler of the app"),
    ("claude", "Claude Desktop, the URL handler of the app"),
    ("code-oss", "builds of Visual Studio Code, `urlProtocol` of product.json"),
    ("codebuddy", "CodeBuddy, a build of Visual Studio Code"),
    ("cursor", "makeplane/plane-mcp-server#159, laravel/mcp#173"),
    ("goose", "block/goose, the URL handler of the app"),
    ("jetbrains", "JetBrains Toolbox"),
    ("kiro", "Kiro, a build of Visual Studio Code"),
    ("librechat", "LibreChat, the desktop builds"),
    ("lmstudio", "LM Studio, the URL handler of the app"),
    ("obsidian", "Obsidian, the URL handler of the app"),
    ("positron", "Positron, a build of Visual Studio Code"),
    ("raycast", "Raycast, OAuth of extensions"),
    ("trae", "Trae, a build of Visual Studio Code"),
    (
        "vscode",
        "Visual Studio Code, `vscode://vscode.github-authentication/did-authenticate`",
    ),
    ("vscode-insiders", "Visual Studio Code Insiders"),
    ("vscodium", "VSCodium"),
    ("warp", "Warp, the URL handler of the app"),
    ("windsurf", "Windsurf, `windsurf://codeium.windsurf/…`"),
    ("windsurf-next", "Windsurf Next"),
    ("x-github-client", "GitHub Desktop"),
    ("zed", "Zed, the URL handler of the app"),
    ("zed-preview", "Zed Preview"),
];

/// Whether a known app has this scheme.
pub fn is_known(scheme: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_schemes_are_sorted_and_written_as_urls_write_them() {
        assert!(KNOWN.is_sorted());
        assert!(is_known("cursor") && !is_known("Cursor") && !is_known("curs") && !is_known(""));
    }
}
