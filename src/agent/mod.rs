//! The client's side: profiles of known MCP clients ([`clients`]), and a doctor that simulates them at a
//! server and reports what fails ([`doctor`]).
//!
//! It uses no store and no use case. It does not use [`crate::upstream::discovery`], which tolerates
//! errors that other clients do not.

pub mod clients;
pub mod doctor;
