//! FLOOR 3. THE HEART. The state machines; pure: they wait for nothing, ask no clock and roll no die.
//!
//! All arrows are in [`ARROWS`], once. A test holds the table against the code, and `mcp-oauth-gateway flow` prints it.

pub mod authorize;
pub mod carried;
pub mod client;
pub mod code;
pub mod grant;
pub mod held;
pub mod kept;
pub mod login;
pub mod notice;
pub mod rejected;
pub mod remember;
pub mod who;

/// From, move, to.
pub struct Arrow {
    /// The state that the move consumes; `[*]` at the start.
    pub from: &'static str,
    /// The method, as it is called in the code.
    pub by: &'static str,
    /// The state that it makes.
    pub to: &'static str,
}

const fn arrow(from: &'static str, by: &'static str, to: &'static str) -> Arrow {
    Arrow { from, by, to }
}

/// Every move there is: one journey, then one grant, then what instances that keep nothing tell each other of it.
pub const ARROWS: [Arrow; 38] = [
    arrow("[*]", "new", "ClientAuthorize"),
    arrow("ClientAuthorize", "signed_in", "GatewayLogin"),
    arrow("ClientAuthorize", "unnamed", "GatewayLogin"),
    arrow("ClientAuthorize", "deny", "Closed"),
    arrow("ClientAuthorize", "to_idp", "IdpRedirect"),
    arrow("IdpRedirect", "returned", "IdpCallback"),
    arrow("IdpRedirect", "refused", "Closed"),
    arrow("IdpCallback", "identified", "GatewayLogin"),
    arrow("IdpCallback", "failed", "Closed"),
    arrow("GatewayLogin", "approve", "UpstreamRedirect"),
    arrow("GatewayLogin", "granted", "CodeIssued"),
    arrow("GatewayLogin", "carried", "CodeCarried"),
    arrow("GatewayLogin", "deny", "Closed"),
    arrow("UpstreamRedirect", "returned", "UpstreamCallback"),
    arrow("UpstreamRedirect", "handed_on", "CodeCarried"),
    arrow("UpstreamRedirect", "refused", "Closed"),
    arrow("UpstreamCallback", "exchanged", "CodeIssued"),
    arrow("UpstreamCallback", "failed", "Closed"),
    arrow("CodeIssued", "redeem", "CodeSpent"),
    arrow("CodeCarried", "redeem", "CodeSpent"),
    arrow("CodeSpent", "replayed", "Ended"),
    arrow("[*]", "new", "Active"),
    arrow("Active", "presented", "Refreshing"),
    arrow("Active", "presented", "Active"),
    arrow("Active", "presented", "Ended"),
    arrow("Active", "renew", "Refreshing"),
    arrow("Active", "end", "Ended"),
    arrow("Refreshing", "presented", "Refreshing"),
    arrow("Refreshing", "presented", "Active"),
    arrow("Refreshing", "presented", "Ended"),
    arrow("Refreshing", "renew", "Refreshing"),
    arrow("Refreshing", "answered", "Active"),
    arrow("Refreshing", "released", "Active"),
    arrow("Refreshing", "refused", "Ended"),
    arrow("Refreshing", "end", "Ended"),
    arrow("Told", "asked", "Told"),
    arrow("Told", "used", "Told"),
    arrow("Told", "released", "Told"),
];

/// The machine as a Mermaid state diagram.
pub fn mermaid() -> String {
    use std::fmt::Write as _;
    let mut out = String::from("stateDiagram-v2\n");
    for Arrow { from, by, to } in ARROWS {
        let _ = writeln!(out, "    {from} --> {to}: {by}");
    }
    out
}
