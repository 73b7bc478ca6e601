//! What has ended: the revocation list and the event streams that end with a grant.

pub mod list;
