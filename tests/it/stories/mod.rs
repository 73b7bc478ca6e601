//! Whole stories, through real sockets, against the stand-in.

mod access;
mod api_keys;
mod chain;
mod cli;
mod clients;
mod config;
mod disk;
mod hostile;
mod issuers;
mod jwt;
mod kept;
mod kill;
mod lifecycle;
mod limits;
mod login;
mod login_hostile;
mod moving;
mod none;
mod origins;
mod profiles;
mod proxy;
#[cfg(feature = "raw")]
mod raw;
mod reconfigured;
mod reference;
mod refresh;
mod remembered;
mod replicas;
mod rollback;
mod seed004;
mod seeds;
mod services;
mod unlock;
#[cfg(feature = "vault")]
mod vaulted;
