//! Rules of presence and form that serde does not have by default.

use serde::{Deserialize, Deserializer};

/// For optional fields whose key may be absent but whose value is never `null` (session.md 1.4).
///
/// Used with `#[serde(default, deserialize_with = "absent")]`.
pub(crate) fn absent<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// For fields whose value may be `null` but whose key must be there.
///
/// Used with `#[serde(deserialize_with = "nullable")]`.
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer)
}

/// Whether a text can be a JSON object. serde reads structs and tagged enums from arrays too, which the wire has not.
pub(crate) fn opens_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}
