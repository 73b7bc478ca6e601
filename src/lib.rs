//! The codemap. See ARCHITECTURE.md.
pub mod base;
pub mod cli;
pub mod config;
pub mod flow;
pub mod gateway;
pub mod net;
pub mod oauth;
pub mod observe;
pub mod service;
pub mod store;
pub mod token;
pub mod upstream;
pub mod web;
