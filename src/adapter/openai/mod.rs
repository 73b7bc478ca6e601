//! OpenAI `POST /v1/responses`: the MCP entries of a request become functions, the gateway runs the calls,
//! and the client sees the vendor's own MCP items and events.

pub mod approval;
pub mod continuation;
mod dialect;
pub mod echo;
pub mod entry;
pub mod error;
mod events;
pub mod history;
pub mod ids;
pub mod items;
mod output;
pub mod prepare;
pub mod request;
mod response;
pub mod turn;
