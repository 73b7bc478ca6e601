//! Ids of the gateway's own requests. They look like the ids of the client, so that an upstream cannot answer
//! the gateway otherwise than the client.

use serde_json::Value;

use crate::base::random;
use crate::mcp::jsonrpc::RequestId;

/// The least upper bound of numbers.
const NUMBERS: u64 = 1_000_000;
/// Clients count. A number this near to one of theirs may be in use.
const NEAR: u64 = 1_000;
/// A text with fewer letters and digits gets more of them, so that it is not in use.
const MIN_CHARACTERS: usize = 12;

/// An id of the same kind as a client's, which the client does not use.
pub(super) fn like(client: Option<&RequestId>) -> RequestId {
    match client.map(RequestId::as_value) {
        Some(Value::String(text)) => RequestId::from(text_like(text).as_str()),
        Some(other) => RequestId::from(number_far_from(other.as_u64().unwrap_or_default())),
        None => RequestId::from(number_far_from(0)),
    }
}

fn number_far_from(number: u64) -> u64 {
    loop {
        let random = u64::from_be_bytes(random::bytes()) % NUMBERS;
        if random.abs_diff(number) > NEAR {
            return random;
        }
    }
}

/// A number in a text stays a number. Elsewhere each letter and digit becomes another one of its kind, so that a
/// UUID stays a UUID.
fn text_like(text: &str) -> String {
    if let Ok(number) = text.parse::<u64>() {
        return number_far_from(number).to_string();
    }
    let mut made: String = text.chars().map(character_like).collect();
    let characters = made.chars().filter(char::is_ascii_alphanumeric).count();
    made.extend((characters..MIN_CHARACTERS).map(|_| character_like('0')));
    made
}

fn character_like(character: char) -> char {
    let kind: &[u8] = match character {
        '0'..='9' => b"0123456789",
        'a'..='f' => b"abcdef",
        'g'..='z' => b"ghijklmnopqrstuvwxyz",
        'A'..='F' => b"ABCDEF",
        'G'..='Z' => b"GHIJKLMNOPQRSTUVWXYZ",
        other => return other,
    };
    let [random] = random::bytes::<1>();
    kind.get(usize::from(random) % kind.len())
        .map_or(character, |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_look_like_those_of_the_client_and_are_not_in_use() {
        for id in [RequestId::from(3), RequestId::from(999_999)] {
            let own = like(Some(&id)).as_value().as_u64().unwrap();
            assert!(own < NUMBERS && own.abs_diff(id.as_value().as_u64().unwrap()) > NEAR);
        }
        let uuid = "8f14e45f-ceea-467f-a0e6-b1c2d3e4f5a6";
        let own = like(Some(&RequestId::from(uuid)));
        let own = own.as_value().as_str().unwrap();
        assert!(own != uuid && own.len() == uuid.len());
        for (made, given) in own.chars().zip(uuid.chars()) {
            assert_eq!(
                (made == '-', made.is_ascii_digit()),
                (given == '-', given.is_ascii_digit()),
                "{own}"
            );
        }
        assert!(
            like(Some(&RequestId::from("7")))
                .as_value()
                .as_str()
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        let short = like(Some(&RequestId::from("req-1")));
        assert!(short.as_value().as_str().is_some_and(|id| id.len() > 10 && id != "req-1"));
        assert!(like(None).as_value().is_u64());
    }
}
