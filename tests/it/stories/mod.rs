//! Whole stories, through real sockets, against the stand-in.

mod chain;
mod cli;
mod hostile;
mod issuers;
mod kill;
mod lifecycle;
mod limits;
mod proxy;
mod refresh;
mod replicas;
mod seed004;
