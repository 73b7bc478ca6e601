//! The client's side: what known MCP clients do ([`clients`]), and a doctor that does the same at a
//! server and says what fails ([`doctor`]).
//!
//! Knows no store and no use case. Nothing here uses [`crate::upstream::discovery`]: it forgives what
//! other clients do not.

pub mod clients;
pub mod doctor;
