//! Expands `${NAME}` and `${NAME:-default}`. `$$`, and `$` before any character but `{`, mean `$`.

/// Expands the variables. The error says what is wrong and what to write; it shows no value.
pub fn interpolate(text: &str, variable: &mut dyn FnMut(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut remaining = text;
    while let Some(index) = remaining.find('$') {
        expanded.push_str(&remaining[..index]);
        let rest = &remaining[index + 1..];
        if let Some(rest) = rest.strip_prefix('$') {
            expanded.push('$');
            remaining = rest;
        } else if let Some(expression) = rest.strip_prefix('{') {
            let end = expression.find('}').ok_or_else(|| {
                let instead = "close it with `}`, or write `$$` for a dollar";
                ("`${` is not closed".to_owned(), instead.to_owned())
            })?;
            expanded.push_str(&value(&expression[..end], variable)?);
            remaining = &expression[end + 1..];
        } else {
            expanded.push('$');
            remaining = rest;
        }
    }
    expanded.push_str(remaining);
    Ok(expanded)
}

fn value(expression: &str, variable: &mut dyn FnMut(&str) -> Option<String>) -> Result<String, (String, String)> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    let is_name =
        !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        let what = "`${…}` does not name a variable".to_owned();
        return Err((
            what,
            "write ${NAME} or ${NAME:-default}, or `$${` for a dollar and a brace".to_owned(),
        ));
    }
    match (variable(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the variable {name} is not set"),
            format!("set it, or say what holds without it: ${{{name}:-default}}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_home(text: &str) -> Result<String, (String, String)> {
        interpolate(text, &mut |name| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_expanded_and_other_dollar_signs_stay() {
        for (text, expanded) in [
            ("plain", "plain"),
            ("${HOME}/x", "/root/x"),
            ("a${HOME}b${HOME}", "a/rootb/root"),
            ("${NONE:-else}", "else"),
            ("${NONE:-}", ""),
            ("${EMPTY:-else}", "else"),
            ("${EMPTY}", ""),
            ("$$", "$"),
            ("$${HOME}", "${HOME}"),
            ("$argon2id$v=19$m=1$", "$argon2id$v=19$m=1$"),
            ("${HOME:-a:-b}", "/root"),
            ("é${HOME}é", "é/rooté"),
        ] {
            assert_eq!(with_home(text).unwrap(), expanded, "{text}");
        }
    }

    #[test]
    fn an_unset_or_malformed_variable_is_named_in_the_error() {
        for (text, expected) in [
            ("${NONE}", "NONE"),
            ("${", "not closed"),
            ("${}", "variable"),
            ("${1A}", "variable"),
            ("${A B}", "variable"),
        ] {
            let (what, instead) = with_home(text).unwrap_err();
            assert!(what.contains(expected) && !instead.is_empty(), "{text}: {what}");
        }
    }
}
