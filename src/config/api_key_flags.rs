//! The flags of `api-keys`.

/// Actions of `api-keys`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ApiKeys {
    /// Create a key and print it once; all other output goes to standard error
    Add {
        /// The service that the key is for
        #[arg(required_unless_present = "adapters", conflicts_with = "adapters")]
        service: Option<String>,
        /// Create a key for the adapters instead of one for a service
        #[arg(long)]
        adapters: bool,
        /// A scope of the key; may be repeated
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// The name of the key's caller [default: key- and a part of the id]
        #[arg(long)]
        name: Option<String>,
        /// The lifetime of the key in days; without it, the key does not expire
        #[arg(long, value_name = "DAYS", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires: Option<u32>,
    },
    /// List all keys and their states, but never the keys themselves
    List,
    /// Revoke a key; every process refuses it within two seconds
    Revoke {
        /// The id that `list` shows
        id: String,
    },
}
