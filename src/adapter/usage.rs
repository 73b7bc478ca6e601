//! The usage of several rounds as one.

use serde_json::Value;

/// Adds the numbers of two usages, member by member. What is no number is the later one's.
pub fn sum(earlier: &Value, later: &Value) -> Value {
    match (earlier, later) {
        (Value::Object(earlier), Value::Object(later)) => {
            let mut whole = earlier.clone();
            for (name, value) in later {
                let merged = whole.get(name).map_or_else(|| value.clone(), |before| sum(before, value));
                whole.insert(name.clone(), merged);
            }
            Value::Object(whole)
        }
        (Value::Number(earlier), Value::Number(later)) => match (earlier.as_u64(), later.as_u64()) {
            (Some(earlier), Some(later)) => Value::from(earlier.saturating_add(later)),
            _ => Value::from(earlier.as_f64().unwrap_or(0.0) + later.as_f64().unwrap_or(0.0)),
        },
        (earlier, Value::Null) => earlier.clone(),
        (_, later) => later.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_added_and_texts_replaced() {
        let one = json!({"input": 1, "details": {"cached": 2}, "tier": "standard", "only_here": 5});
        let other = json!({"input": 10, "details": {"cached": 20, "more": 1}, "tier": "priority"});
        let whole = json!({"input": 11, "details": {"cached": 22, "more": 1}, "tier": "priority", "only_here": 5});
        assert_eq!(sum(&one, &other), whole);
        assert_eq!((sum(&Value::Null, &one), sum(&one, &Value::Null)), (one.clone(), one));
    }
}
