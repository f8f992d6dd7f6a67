//! Schemas of the document: one of each type, as it is read in requests and as it is written in answers.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operations::Content;

const FOLDER: &str = "#/components/schemas/";

pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

fn settings(mut settings: SchemaSettings) -> SchemaSettings {
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings
}

impl Schemas {
    pub fn new() -> Self {
        let of = |for_answers: bool| {
            let all = settings(SchemaSettings::draft2020_12());
            if for_answers { all.for_serialize() } else { all.for_deserialize() }.into_generator()
        };
        let mut schemas = Self { read: of(false), written: of(true) };
        // What every refusal is.
        schemas.answer::<oi_protocol::ErrorBody>();
        schemas
    }

    /// A body as it is read. Its types have names of their own, since more may be absent than in an answer.
    pub fn body<T: JsonSchema>(&mut self) -> Value {
        let mut schema = self.read.subschema_for::<T>().to_value();
        rename(&mut schema);
        schema
    }

    /// An answer as it is written.
    pub fn answer<T: JsonSchema>(&mut self) -> Content {
        Content::Json(self.written.subschema_for::<T>().to_value())
    }

    /// Parameters of the query: the fields of a type.
    pub fn query<T: JsonSchema>(&mut self) -> Vec<Value> {
        let mut schema = T::json_schema(&mut self.read).to_value();
        rename(&mut schema);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let parameter = |(name, mut schema): (String, Value)| {
            let described = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            not_null(&mut schema);
            let is_required = required.contains(&json!(name));
            let mut parameter = json!({"name": name, "in": "query", "required": is_required, "schema": schema});
            if let Some(description) = described {
                parameter["description"] = description;
            }
            parameter
        };
        fields.into_iter().map(parameter).collect()
    }

    pub fn finish(mut self) -> Map<String, Value> {
        let mut all = self.written.take_definitions(true);
        for (name, mut schema) in self.read.take_definitions(true) {
            rename(&mut schema);
            all.insert(format!("{name}{READ}"), schema);
        }
        // By name, whichever route was first.
        let sorted: std::collections::BTreeMap<String, Value> = all.into_iter().collect();
        sorted.into_iter().collect()
    }
}

/// Added to the name of a type as it is read.
const READ: &str = "Read";

fn rename(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(rename),
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(target) if key == "$ref" && target.starts_with(FOLDER) => target.push_str(READ),
                    member => rename(member),
                }
            }
        }
        _ => {}
    }
}

/// A parameter may be left out; null it cannot be.
fn not_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [only] = choices.as_slice() {
            *schema = only.clone();
        }
    }
}
