//! Whole stories, through real sockets, against the stand-in.

mod chain;
mod cli;
mod config;
mod hostile;
mod issuers;
mod kill;
mod lifecycle;
mod limits;
mod proxy;
mod refresh;
mod seed004;
