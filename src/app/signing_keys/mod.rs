//! The keys that sign JWTs and assertions: loaded, rotated, published.

pub mod state;
