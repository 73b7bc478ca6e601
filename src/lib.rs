//! An OAuth gateway for MCP. A module imports lower layers only, and a test checks that. See
//! ARCHITECTURE.md.
//!
//! | layer | module | content |
//! | --- | --- | --- |
//! | 9 | [`cli`] | starts and stops everything |
//! | 7 | [`web`] | routes, request checks, cookies, pages, responses |
//! | 6 | [`adapter`] | endpoints that speak a model vendor's API |
//! | 6 | [`config`] | flags or a file as checked types |
//! | 5 | [`agent`] | the client's side: known clients, and the doctor |
//! | 5 | [`app`] | the use cases, and what lives in memory |
//! | 4 | [`service`] | a configured upstream, and the upstream credential of a request |
//! | 3 | [`store`], [`flow`], [`upstream`] | records; state machines; discovery and forwarding |
//! | 2 | [`net`], [`observe`], [`oauth`], [`token`], [`mcp`] | sockets; logs; protocol data; the pair; MCP |
//! | 1 | [`base`] | secrets, encryption, ids, time, random numbers, URLs |

// These macros panic if the pipe is closed. `cli` has functions that do not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod adapter;
pub mod agent;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod flow;
pub mod mcp;
pub mod net;
pub mod oauth;
pub mod observe;
pub mod service;
pub mod store;
pub mod token;
pub mod upstream;
pub mod web;
