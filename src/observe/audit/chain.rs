//! The chain of digests: each record holds the SHA-256 of the one before, so that a record that is
//! changed, removed or inserted later is found.

use serde_json::{Map, Value};

use crate::base::ids::Digest;

/// The digest before the first record.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of a chain, to which the next record is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The number of the last record; 0 before the first.
    pub seq: u64,
    /// The digest of the last record, in hexadecimal.
    pub hash: String,
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: NO_DIGEST.to_owned(),
        }
    }
}

/// The reason why a line does not continue a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The line is no record of an audit log.
    #[error("it is no record of an audit log")]
    NoRecord,
    /// The record was changed after it was written.
    #[error("the record was changed: its digest is another one")]
    Changed,
    /// A record before this one was removed, changed or inserted.
    #[error("the record does not follow the one before: records were removed, inserted or changed")]
    Broken,
}

impl ChainEnd {
    /// Joins a record to the chain and returns its line, without a line break.
    pub fn append(&mut self, mut record: Map<String, Value>) -> String {
        record.insert("seq".to_owned(), (self.seq + 1).into());
        record.insert("prev_hash".to_owned(), self.hash.clone().into());
        let hash = digest(&record);
        record.insert("hash".to_owned(), hash.clone().into());
        (self.seq, self.hash) = (self.seq + 1, hash);
        canonical(&Value::Object(record))
    }

    /// Checks that a line continues the chain, and moves to it. `None` as the chain accepts any start.
    ///
    /// # Errors
    /// The problem of the line.
    pub fn follow(chain: &mut Option<Self>, line: &str) -> Result<(), ChainError> {
        let Ok(Value::Object(mut record)) = serde_json::from_str(line) else {
            return Err(ChainError::NoRecord);
        };
        let (Some(Value::String(hash)), Some(seq), Some(Value::String(before))) = (
            record.remove("hash"),
            record.get("seq").and_then(Value::as_u64),
            record.get("prev_hash").cloned(),
        ) else {
            return Err(ChainError::NoRecord);
        };
        if digest(&record) != hash {
            return Err(ChainError::Changed);
        }
        // The first record of all follows nothing, whatever the earlier files are said to be.
        let begins = ChainEnd::default();
        let expected = chain.as_ref().or((seq == 1).then_some(&begins));
        if expected.is_some_and(|end| end.seq + 1 != seq || end.hash != before) {
            return Err(ChainError::Broken);
        }
        *chain = Some(Self { seq, hash });
        Ok(())
    }
}

fn digest(record: &Map<String, Value>) -> String {
    Digest::new(&canonical(&Value::Object(record.clone()))).to_hex()
}

/// The canonical form (RFC 8785) of a value without fractions.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<String> {
        let mut end = ChainEnd::default();
        (0..count)
            .map(|number| {
                end.append(Map::from_iter([
                    ("n".to_owned(), number.into()),
                    ("a\n\"é".to_owned(), Value::Null),
                ]))
            })
            .collect()
    }

    fn check(lines: &[String]) -> Result<Option<ChainEnd>, (usize, ChainError)> {
        let mut chain = Some(ChainEnd::default());
        for (number, line) in lines.iter().enumerate() {
            ChainEnd::follow(&mut chain, line).map_err(|error| (number, error))?;
        }
        Ok(chain)
    }

    #[test]
    fn a_chain_verifies_and_every_change_is_found_where_it_is() {
        let all = lines(5);
        assert_eq!(check(&all).unwrap().unwrap().seq, 5);
        let mut changed = all.clone();
        changed[2] = changed[2].replace("\"n\":2", "\"n\":3");
        assert_eq!(check(&changed), Err((2, ChainError::Changed)));
        let mut removed = all.clone();
        removed.remove(3);
        assert_eq!(check(&removed), Err((3, ChainError::Broken)));
        let mut swapped = all.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped), Err((1, ChainError::Broken)));
        assert_eq!(check(&[all[0].clone(), "{}".to_owned()]), Err((1, ChainError::NoRecord)));
        assert_eq!(check(&all[1..]), Err((0, ChainError::Broken)));
    }
}
