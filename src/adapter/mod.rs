//! Adapters: endpoints that speak the API of a model vendor and run the tools of this gateway's services.
//! OpenAI Responses and Anthropic Messages; everything else below their paths passes through.

pub mod access;
pub mod anthropic;
pub mod call;
pub mod dialect;
pub mod endpoint;
pub mod filter;
pub mod idempotency;
pub mod json;
pub mod loops;
pub mod names;
pub mod openai;
pub mod outcome;
pub mod own_entries;
mod own_request;
pub mod refusal;
pub mod rounds;
mod runner;
pub mod target;
pub mod toolbox;
pub mod usage;
pub mod vendor;
