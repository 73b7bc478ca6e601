//! The addresses of the model vendors behind the adapters.

use crate::base::url::ExactUrl;

/// The configured addresses, without `/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterUrls {
    /// Instead of OpenAI's own address: a server with its API.
    pub openai: Option<ExactUrl>,
    /// Instead of Anthropic's own address: a server with its API.
    pub anthropic: Option<ExactUrl>,
}

impl AdapterUrls {
    /// The address for the OpenAI Responses API.
    pub fn openai(&self) -> &str {
        self.openai.as_ref().map_or("https://api.openai.com", ExactUrl::as_str)
    }

    /// The address for the Anthropic Messages API.
    pub fn anthropic(&self) -> &str {
        self.anthropic.as_ref().map_or("https://api.anthropic.com", ExactUrl::as_str)
    }
}
