//! Whole stories, through real sockets, against the stand-in.

mod chain;
mod cli;
mod hostile;
mod seed004;
