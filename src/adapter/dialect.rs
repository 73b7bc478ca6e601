//! What the loop needs of a vendor's API.

use std::time::Duration;

use crate::adapter::call::{Next, ToolCall};
use crate::adapter::outcome::ToolOutcome;
use crate::mcp::sse::SseEvent;

/// One response to a client, in the API of one vendor: a state machine that sends nothing.
pub trait Dialect: Send {
    /// What is first: calls, or the model.
    fn begin(&self) -> Next;
    /// The next request to the vendor.
    fn next_request(&mut self) -> String;
    /// Reads an event of the vendor's stream.
    fn event(&mut self, event: &SseEvent);
    /// Reads the vendor's whole body.
    fn whole(&mut self, body: &[u8]);
    /// The vendor's answer has ended: what is next.
    fn round_ended(&mut self) -> Next;
    /// The calls to run now.
    fn calls(&self) -> Vec<(u64, ToolCall)>;
    /// A call has ended.
    fn ended(&mut self, index: u64, outcome: ToolOutcome);
    /// All calls have ended: what is next.
    fn tools_ended(&mut self) -> Next;
    /// The vendor cannot answer a later round: code and message.
    fn fail(&mut self, code: &str, message: &str);
    /// Ends the response: its last events, or the whole body.
    fn finish(&mut self) -> String;
    /// The events since the last call, as text.
    fn take_text(&mut self) -> String;
    /// Says how long the request has taken.
    fn set_elapsed(&mut self, elapsed: Duration);
    /// Whether a tool ran.
    fn has_run_tools(&self) -> bool;
    /// What later requests of the client need, by an id that they repeat.
    fn memories(&mut self) -> Vec<(String, String)>;
    /// What keeps a quiet stream open.
    fn keep_alive() -> String;
}
