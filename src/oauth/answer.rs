//! What an upstream's token endpoint answered.
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct UpstreamAccess(#[serde(with = "at_rest")] Secret);
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct UpstreamRefresh(#[serde(with = "at_rest")] Secret);
impl UpstreamAccess {
    pub fn new(s: Secret) -> Self {
        Self(s)
    }
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}
impl UpstreamRefresh {
    pub fn new(s: Secret) -> Self {
        Self(s)
    }
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    pub access: UpstreamAccess,
    pub refresh: Option<UpstreamRefresh>,
    pub expires: Option<UnixTime>,
    pub refresh_expires: Option<UnixTime>,
    pub scope: Option<String>,
}
