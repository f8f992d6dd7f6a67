//! JSON as `JSON.stringify` writes it after `JSON.parse`: what a receiver in JavaScript that verifies a signature by
//! writing the body again comes to.

use serde_json::Value;

/// Writes a value so that parsing and writing it again in JavaScript gives the same text.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// A string with its quotes.
pub fn quoted(text: &str) -> String {
    // Both escape quotes, backslashes and control characters alike, and nothing else.
    Value::from(text).to_string()
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => out.push_str(&number_text(number.as_f64().unwrap_or_default())),
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // JavaScript puts keys that are array indexes first, by number.
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_by_key(|key| index_of(key).map_or((1, 0), |index| (0, index)));
            out.push('{');
            for (position, key) in keys.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key));
                out.push(':');
                write(&members[key], out);
            }
            out.push('}');
        }
    }
}

fn index_of(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok()?;
    (index != u32::MAX && index.to_string() == key).then_some(index)
}

/// `Number.prototype.toString`: the shortest digits, plain between 1e-6 and 1e21.
fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(-6..=20) => format!("{number}"),
        Ok(exponent) => format!("{digits}e{exponent:+}"),
        Err(_) => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_javascript() {
        // Each right side is what `JSON.stringify(JSON.parse(left))` gives in a browser; keys that are no indexes are
        // sorted, as our maps are before anything is sent.
        for (sent, expected) in [
            (r#"{"b":1,"a":1.0,"10":2,"9":3,"01":4}"#, r#"{"9":3,"10":2,"01":4,"a":1,"b":1}"#),
            ("[1e21,1e20,0.000001,1e-7,-0,1.5]", "[1e+21,100000000000000000000,0.000001,1e-7,0,1.5]"),
            ("[9007199254740993,-12.50,1.25e-9]", "[9007199254740992,-12.5,1.25e-9]"),
            ("\"\\u0001\\u001f\\b\\/\\\"é\\u007f\"", "\"\\u0001\\u001f\\b/\\\"é\u{7f}\""),
            (r#"{"x":[null,true,{}]}"#, r#"{"x":[null,true,{}]}"#),
        ] {
            let value: Value = serde_json::from_str(sent).expect("JSON");
            assert_eq!(to_string(&value), expected);
        }
    }

    #[test]
    fn writing_again_changes_nothing() {
        let value = serde_json::json!({"2": 0.1, "a": {"1": 1e300, "z": "\u{2028}"}, "n": -1e-9});
        let once = to_string(&value);
        let again: Value = serde_json::from_str(&once).expect("JSON");
        assert_eq!(to_string(&again), once);
    }
}
