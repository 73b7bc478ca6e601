//! Whole stories, through real sockets, against the stand-in.

mod chain;

mod kill;
mod lifecycle;
mod proxy;
mod refresh;
