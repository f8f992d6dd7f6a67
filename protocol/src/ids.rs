//! Identifiers that the control plane mints: 16 random bytes as 32 lowercase hex digits.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a text is not an identifier of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lowercase hex digits")]
pub struct InvalidId;

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(32);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// Whether `text` has the form of an identifier that the control plane mints.
pub fn is_minted_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! minted_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(#[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9a-f]{32}$")))] String);

        impl $name {
            /// An id from 16 random bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(hex(bytes))
            }

            /// Accepts 32 lowercase hex digits and nothing else.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_minted_id(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
            }

            /// The 32 hex digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

minted_id! {
    /// The public id of a session, in every URL.
    SessionId
}
minted_id! {
    /// A prompt, and all that its run produces.
    MessageId
}
minted_id! {
    /// A person (or bot) within one session.
    ParticipantId
}
minted_id! {
    /// Something a session produced: a pull request, a screenshot.
    ArtifactId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_exactly_32_lowercase_hex_digits() {
        let id = SessionId::from_bytes([0xab; 16]);
        assert_eq!(SessionId::parse(id.as_str()), Ok(id));
        for bad in ["", "ab", &"AB".repeat(16), &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(SessionId::parse(bad), Err(InvalidId), "{bad}");
        }
    }
}
