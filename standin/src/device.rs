//! The device authorization endpoint (RFC 8628).

use std::io;

use serde_json::json;

use crate::body::{Reply, json as json_reply};
use crate::clients::authenticate;
use crate::server::Exchange;
use crate::token::{Call, Refusal, call};
use crate::tokens::{DeviceCode, random};

/// The grant type of a token request with a device code.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The device flow, as an upstream offers it.
#[derive(Clone, Debug)]
pub struct DeviceFlow {
    /// The errors of the next token requests with a device code, before there are tokens.
    pub errors: Vec<String>,
    /// The value of `interval`, in seconds.
    pub interval: u64,
    /// The value of `expires_in`, in seconds.
    pub expires_in: u64,
    /// Answer the request for the codes with this OAuth error.
    pub refusal: Option<String>,
    /// The user code.
    pub user_code: String,
}

impl Default for DeviceFlow {
    fn default() -> Self {
        Self {
            errors: Vec::new(),
            interval: 1,
            expires_in: 600,
            refusal: None,
            user_code: "WDJB-MJHT".to_owned(),
        }
    }
}

/// `/device_authorization`.
pub async fn handle(exchange: Exchange) -> io::Result<Reply> {
    let call: Call = call(exchange).await?;
    let Some(flow) = call.behaviour.device.clone() else {
        return Ok(json_reply(404, &json!({"error": "not_found"})));
    };
    let client = match authenticate(&mut call.state.tokens(), &call.state.issuer(), &call.headers, &call.form) {
        Ok(client) => client,
        Err(refusal) => return Ok(refusal.reply(&call)),
    };
    if let Some(error) = &flow.refusal {
        return Ok(Refusal::new(error, "as asked for").reply(&call));
    }
    let scope = call.field("scope").unwrap_or(call.state.scope()).to_owned();
    let device_code = format!("dc_{}", random());
    call.state
        .tokens()
        .devices
        .insert(device_code.clone(), DeviceCode { client_id: client, scope });
    let page = format!("{}/device", call.state.origin);
    Ok(json_reply(
        200,
        &json!({
            "device_code": device_code,
            "user_code": flow.user_code,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code=filled"),
            "expires_in": flow.expires_in,
            "interval": flow.interval,
        }),
    ))
}
