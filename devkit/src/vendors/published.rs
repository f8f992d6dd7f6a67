//! What a vendor publishes of its API, and whether a request and an answer are of it.
//!
//! The files are pruned from the vendors' OpenAPI documents, which they name, to the operations that are used: without
//! texts, `nullable` written as JSON Schema has it, and request bodies closed against fields that are not published.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::edge::{Asked, Said};

/// A pruned document.
#[derive(Deserialize)]
pub struct Published {
    operations: BTreeMap<String, Operation>,
    #[serde(rename = "$defs")]
    defs: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    query: BTreeMap<String, QueryField>,
    #[serde(default)]
    request: Option<Value>,
    #[serde(default)]
    request_required: bool,
    answers: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct QueryField {
    required: bool,
    schema: Value,
}

impl Published {
    /// Daytona's.
    pub fn daytona() -> Self {
        Self::read(include_str!("published/daytona.json"))
    }

    /// E2B's.
    pub fn e2b() -> Self {
        Self::read(include_str!("published/e2b.json"))
    }

    #[expect(clippy::expect_used, reason = "the file is part of this crate, and a test reads it")]
    fn read(text: &str) -> Self {
        serde_json::from_str(text).expect("a pruned document")
    }

    fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut schema = json!({ "allOf": [schema] });
        schema["$defs"] = self.defs.clone();
        match jsonschema::options().should_validate_formats(false).build(&schema) {
            // The value is left out: it may hold secrets of a test that shows what it gets.
            Ok(validator) => {
                validator.iter_errors(value).map(|e| format!("{} at {}", e.masked(), e.instance_path())).collect()
            }
            Err(error) => vec![format!("the published schema is none: {error}")],
        }
    }

    /// Whether a request is as it is published; gives its body.
    pub fn request(&self, operation: &str, asked: &Asked) -> Result<Value, Said> {
        let refused = |why: String| Said::error(400, &format!("{operation}: {why}"));
        let known = self.operations.get(operation).ok_or_else(|| refused("is not published".to_owned()))?;
        for (name, text) in &asked.query {
            let field = known.query.get(name).ok_or_else(|| refused(format!("`{name}` is no name of its query")))?;
            // A query has texts only; a list is parted by commas.
            let value = match field.schema["type"].as_str() {
                Some("integer" | "number" | "boolean") => {
                    serde_json::from_str(text).map_err(|_| refused(format!("`{name}` has no such value")))?
                }
                Some("array") => text.split(',').collect(),
                _ => json!(text),
            };
            let faults = self.faults(&field.schema, &value);
            if !faults.is_empty() {
                return Err(refused(format!("`{name}`: {}", faults.join("; "))));
            }
        }
        if let Some((name, _)) = known.query.iter().find(|(name, f)| f.required && !asked.query.contains_key(*name)) {
            return Err(refused(format!("`{name}` is missing in its query")));
        }
        let body = asked.json()?;
        match &known.request {
            None if body.is_null() => Ok(body),
            None => Err(refused("takes no body".to_owned())),
            Some(_) if body.is_null() && !known.request_required => Ok(body),
            Some(schema) => {
                let faults = self.faults(schema, &body);
                if faults.is_empty() { Ok(body) } else { Err(refused(faults.join("; "))) }
            }
        }
    }

    /// The answer, when it is as it is published: a stand-in must not say what the vendor would not.
    pub fn answer(&self, operation: &str, status: u16, body: &Value) -> Said {
        let Some(known) = self.operations.get(operation) else {
            return Said::error(599, &format!("{operation} is not published"));
        };
        let Some(schema) = known.answers.get(&status.to_string()) else {
            return Said::error(599, &format!("{operation} is not published to answer {status}"));
        };
        if schema.is_null() {
            return Said::empty(status);
        }
        let faults = self.faults(schema, body);
        if faults.is_empty() {
            Said::json(status, body)
        } else {
            Said::error(
                599,
                &format!("the stand-in's answer to {operation} is not as published: {}", faults.join("; ")),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;

    fn asked(query: &[(&str, &str)], body: &Value) -> Asked {
        Asked {
            method: String::new(),
            path: String::new(),
            parts: Vec::new(),
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
            body: if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) },
        }
    }

    #[test]
    fn what_is_not_published_is_refused() {
        let (daytona, e2b) = (Published::daytona(), Published::e2b());
        let create = "POST /sandbox";
        assert!(daytona.request(create, &asked(&[], &json!({"name": "a", "public": false}))).is_ok());
        for bad in [json!({"nam": "a"}), json!({"public": "no"}), json!({"env": {"A": 1}}), json!([]), Value::Null] {
            assert!(daytona.request(create, &asked(&[], &bad)).is_err(), "{bad}");
        }
        let preview = "GET /sandbox/{sandboxIdOrName}/ports/{port}/signed-preview-url";
        assert!(daytona.request(preview, &asked(&[("expiresInSeconds", "900")], &Value::Null)).is_ok());
        assert!(daytona.request(preview, &asked(&[("expires_in_seconds", "900")], &Value::Null)).is_err());
        assert!(daytona.request(preview, &asked(&[("expiresInSeconds", "soon")], &Value::Null)).is_err());
        assert!(e2b.request("POST /sandboxes", &asked(&[], &json!({"envVars": {}}))).is_err(), "no template");
        assert!(e2b.request("GET /v2/sandboxes", &asked(&[("state", "running,lost")], &Value::Null)).is_err());
        assert_eq!(daytona.answer(create, 200, &json!({"id": "a"})).status, 599);
        assert_eq!(e2b.answer("POST /sandboxes/{sandboxID}/pause", 204, &Value::Null).status, 204);
    }
}
