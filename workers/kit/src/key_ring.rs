//! Keys of the deployment that take turns: one that seals, and older ones that still open.
//!
//! A key's id is derived from the key, so that a configuration cannot give one key the id of another. The id is sealed
//! with the value: a row whose key id is changed does not open.

use sha2::{Digest as _, Sha256};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::failure::Refusal;
use crate::sealed::{SealError, SealingKey};
use crate::vars::Vars;

/// Older keys that a deployment may have.
pub const OLD_KEYS_MAX: usize = 10;

struct Named {
    id: String,
    key: SealingKey,
}

impl Named {
    fn from_base64(text: &str) -> Result<Self, SealError> {
        let key = SealingKey::from_base64(text)?;
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::Key)?;
        let digest = Sha256::new().chain_update(b"open-inspect key id v1\0").chain_update(&bytes).finalize();
        Ok(Self { id: hex::encode(&digest[..8]), key })
    }

    fn place(&self, place: &str) -> String {
        format!("key/{}/{place}", self.id)
    }
}

/// A value as it is stored, with the key that seals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The key's id.
    pub key_id: String,
    /// The sealed value.
    pub value: String,
}

impl Sealed {
    /// Both in one column: `<key id>.<value>`. Base64 has no dot.
    pub fn to_text(&self) -> String {
        format!("{}.{}", self.key_id, self.value)
    }

    /// From such a column. A text without a key's id is of none.
    pub fn from_text(text: &str) -> Self {
        let (key_id, value) = text.split_once('.').unwrap_or(("", text));
        Self { key_id: key_id.to_owned(), value: value.to_owned() }
    }
}

/// The keys.
pub struct KeyRing {
    current: Named,
    old: Vec<Named>,
}

impl KeyRing {
    /// From base64 of 32 bytes each. A key that is there twice counts once.
    pub fn from_base64<'k>(current: &str, old: impl IntoIterator<Item = &'k str>) -> Result<Self, SealError> {
        let current = Named::from_base64(current)?;
        let mut ring = Self { current, old: Vec::new() };
        for text in old {
            let key = Named::from_base64(text)?;
            if ring.find(&key.id).is_none() {
                ring.old.push(key);
            }
        }
        if ring.old.len() > OLD_KEYS_MAX { Err(SealError::Key) } else { Ok(ring) }
    }

    /// From the variable `name`, and from `name_OLD`, a list separated by commas.
    pub fn of(vars: &impl Vars, name: &str) -> Result<Self, Refusal> {
        let current = vars.get(name).ok_or_else(|| Refusal::not_configured(format!("{name} is not set")))?;
        let old = vars.get(&format!("{name}_OLD")).unwrap_or_default();
        let old = old.split(',').map(str::trim).filter(|text| !text.is_empty());
        Self::from_base64(&current, old).map_err(|_| {
            let sentence =
                format!("{name} must be base64 of 32 bytes, and {name}_OLD up to {OLD_KEYS_MAX} of the kind");
            Refusal::not_configured(sentence)
        })
    }

    fn find(&self, id: &str) -> Option<&Named> {
        std::iter::once(&self.current).chain(&self.old).find(|key| key.id == id)
    }

    /// The id of the key that seals.
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    /// Ids of the keys that only open.
    pub fn old_ids(&self) -> impl Iterator<Item = &str> {
        self.old.iter().map(|key| key.id.as_str())
    }

    /// Whether there is such a key.
    pub fn knows(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// Encrypts `plain` for the place that `place` names.
    pub fn seal(&self, plain: &str, place: &str) -> Result<Sealed, SealError> {
        let key = &self.current;
        Ok(Sealed { key_id: key.id.clone(), value: key.key.seal(plain, &key.place(place))? })
    }

    /// Seals anew, with the current key, what an older one seals. `None` when there is nothing to do or it does not open.
    pub fn renewed(&self, sealed: &Sealed, place: &str) -> Option<Sealed> {
        let is_old = self.old.iter().any(|key| key.id == sealed.key_id);
        is_old.then(|| self.open(sealed, place).and_then(|plain| self.seal(&plain, place)).ok()).flatten()
    }

    /// Decrypts what was sealed for the same place, with whichever key.
    pub fn open(&self, sealed: &Sealed, place: &str) -> Result<String, SealError> {
        let key = self.find(&sealed.key_id).ok_or(SealError::Open)?;
        key.key.open(&sealed.value, &key.place(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn ring(current: u8, old: &[u8]) -> KeyRing {
        let old: Vec<String> = old.iter().map(|byte| text(*byte)).collect();
        KeyRing::from_base64(&text(current), old.iter().map(String::as_str)).expect("keys")
    }

    #[test]
    fn what_an_old_key_sealed_opens_as_long_as_the_key_is_there() {
        let before = ring(1, &[]).seal("v", "p").expect("seals");
        assert_eq!(ring(2, &[1]).open(&before, "p").as_deref(), Ok("v"));
        assert_eq!(ring(2, &[]).open(&before, "p"), Err(SealError::Open));
        let after = ring(2, &[1]).seal("v", "p").expect("seals");
        assert_eq!(after.key_id, ring(2, &[]).current_id());
        assert_ne!(after.key_id, before.key_id);
        assert_eq!(ring(2, &[]).open(&after, "p").as_deref(), Ok("v"));
    }

    #[test]
    fn a_value_and_its_key_are_one_text_and_an_old_one_is_renewed() {
        let before = ring(1, &[]).seal("v", "p").expect("seals");
        assert_eq!(Sealed::from_text(&before.to_text()), before);
        assert_eq!(ring(1, &[]).open(&Sealed::from_text(&before.value), "p"), Err(SealError::Open), "of no key");
        let keys = ring(2, &[1]);
        let after = keys.renewed(&before, "p").expect("it is old");
        assert_eq!(ring(2, &[]).open(&after, "p").as_deref(), Ok("v"));
        assert_eq!(keys.renewed(&after, "p"), None, "it is new");
        assert_eq!(keys.renewed(&before, "q"), None, "it is of another place");
        assert_eq!(ring(2, &[]).renewed(&before, "p"), None, "nobody has its key");
    }

    #[test]
    fn a_value_opens_in_its_place_and_under_its_own_key_id_only() {
        let keys = ring(2, &[1]);
        let sealed = keys.seal("v", "p").expect("seals");
        assert_eq!(keys.open(&sealed, "q"), Err(SealError::Open));
        let other = ring(1, &[]).current_id().to_owned();
        assert_eq!(keys.open(&Sealed { key_id: other, ..sealed.clone() }, "p"), Err(SealError::Open));
        assert_eq!(keys.open(&Sealed { key_id: "0".repeat(16), ..sealed.clone() }, "p"), Err(SealError::Open));
        // Nor as a value that no ring sealed, of the same key and place.
        let plain = SealingKey::from_base64(&text(2)).expect("a key").seal("v", "p").expect("seals");
        assert_eq!(keys.open(&Sealed { value: plain, ..sealed }, "p"), Err(SealError::Open));
    }

    #[test]
    fn the_configuration_is_a_key_and_a_list_of_old_ones() {
        let (one, two) = (text(1), text(2));
        let list = format!(" {one} , ,{two},{two}");
        let vars = BTreeMap::from([("K", two.as_str()), ("K_OLD", list.as_str())]);
        let keys = KeyRing::of(&vars, "K").expect("configured");
        assert_eq!(keys.old_ids().collect::<Vec<_>>(), [ring(1, &[]).current_id()], "each key counts once");
        assert!(keys.knows(ring(1, &[]).current_id()) && !keys.knows("x"));
        for bad in [
            BTreeMap::new(),
            BTreeMap::from([("K", "c2hvcnQ=")]),
            BTreeMap::from([("K", two.as_str()), ("K_OLD", "x")]),
        ] {
            let refusal = KeyRing::of(&bad, "K").err().expect("not configured");
            assert!(refusal.status == 503 && refusal.sentence.starts_with("K "), "{refusal}");
        }
        let many: Vec<String> = (10..21).map(text).collect();
        assert!(KeyRing::from_base64(&one, many.iter().map(String::as_str)).is_err());
    }
}
