//! The keys by which programs of this machine's user call the gateway. Each is in a file of the data
//! directory.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::secret::Secret;

/// The purpose of a local key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKeyKind {
    /// The MCP endpoints of services with `access = "local"`.
    Local,
    /// The adapters.
    Adapter,
}

impl LocalKeyKind {
    /// The first characters of a key, which say what it is.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Local => "gwl_",
            Self::Adapter => "gwd_",
        }
    }

    /// The name of its file in the data directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Local => "local-key",
            Self::Adapter => "adapter-key",
        }
    }

    /// The key with these random bytes.
    pub fn encode(self, bytes: &[u8; 32]) -> Secret {
        Secret::from(format!("{}{}", self.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Parses a key: the prefix and 32 bytes in base64url. White space around it, such as a line end, is
    /// dropped. `None` for anything else.
    pub fn parse(self, text: &str) -> Option<Secret> {
        let text = text.trim();
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(self.prefix())?).ok()?;
        (bytes.len() == 32).then(|| Secret::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_key_is_read_as_it_was_written_and_nothing_else_is() {
        for kind in [LocalKeyKind::Local, LocalKeyKind::Adapter] {
            let key = kind.encode(&[7; 32]);
            let text = key.expose();
            assert_eq!(kind.parse(&format!("{text}\n")), Some(key.clone()));
            for wrong in [
                "",
                "gwl_",
                &text[4..],
                &text[..text.len() - 1],
                &format!("{text}="),
                &text.replacen('B', " ", 1),
            ] {
                assert_eq!(kind.parse(wrong), None, "{wrong}");
            }
        }
        assert_eq!(LocalKeyKind::Local.parse(LocalKeyKind::Adapter.encode(&[7; 32]).expose()), None);
    }
}
