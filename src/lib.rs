//! The codemap; ARCHITECTURE.md says more.
//!
//! | floor | room | what it is |
//! | --- | --- | --- |
//! | 7 | [`cli`] | flags, files, start and stop |
//! | 6 | [`web`], [`config`] | the front door; what the operator said |
//! | 5 | [`gateway`] | the hall: one async fn for each use case |
//! | 4 | [`service`] | what stands behind us |
//! | 3 | [`flow`], [`upstream`] | the heart: typed states; the other side |
//! | 2 | [`oauth`], [`token`], [`store`], [`observe`] | the protocol as data; the pair; a typed cupboard; logs |
//! | – | [`base`], [`net`] | words that every room uses; sockets |
//!
//! Arrows point down only, and a test holds the code against that.

// They panic where nobody reads any more; the command line has its own.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod flow;
pub mod net;
pub mod oauth;
pub mod observe;
pub mod service;
pub mod store;
pub mod token;
pub mod upstream;
pub mod web;
