//! The ids of our items. They carry the vendor's ids of a call, so that a later request with these items
//! repeats the vendor's own conversation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The prefix of an `mcp_call` of ours.
const CALL: &str = "mcp_gw";

/// What identifies a call at the vendor.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CallIds {
    /// The vendor's `call_id`.
    pub call_id: String,
    /// The vendor's id of the item.
    pub item_id: String,
    /// The same for all calls of one round, and for no others.
    pub round: String,
}

impl CallIds {
    /// The id of an `mcp_call`.
    pub fn to_item_id(&self) -> String {
        let text = [self.round.as_str(), &self.item_id, &self.call_id].join("\n");
        format!("{CALL}{}", URL_SAFE_NO_PAD.encode(text))
    }

    /// Reads the id of an `mcp_call`; `None` if it is not of ours.
    pub fn from_item_id(id: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(id.strip_prefix(CALL)?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.split('\n').map(str::to_owned);
        let (round, item_id, call_id) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Self { call_id, item_id, round })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_the_ids_of_the_vendor() {
        let ids = CallIds {
            call_id: "call_1".to_owned(),
            item_id: "fc_1".to_owned(),
            round: "abc".to_owned(),
        };
        assert_eq!(CallIds::from_item_id(&ids.to_item_id()), Some(ids));
        assert!(CallIds::from_item_id("mcp_68f1a0c5").is_none() && CallIds::from_item_id("mcp_gw!").is_none());
    }
}
