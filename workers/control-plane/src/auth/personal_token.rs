//! Tokens of people's own scripts: `Authorization: Bearer oi_pat_…`.

use oi_worker_kit::{Failure, Refusal, clock, mac, random};
use worker::Env;

use super::still_admitted;
use crate::policy::{Authenticated, Caller, TokenGrant};
use crate::store::{D1, personal_tokens};

/// What every one begins with, so that leaks are found by it.
const PREFIX: &str = "oi_pat_";

/// A new one.
pub fn mint() -> String {
    format!("{PREFIX}{}", random::hex::<32>())
}

/// What is stored of one. It is random and long enough for a plain hash.
pub fn hash(token: &str) -> String {
    mac::sha256_hex(token.as_bytes())
}

/// Whether a bearer claims to be one. It is then nothing else: neither a sandbox's token nor passed over.
pub fn claims(bearer: &str) -> bool {
    bearer.starts_with(PREFIX)
}

fn is_well_formed(bearer: &str) -> bool {
    let digits = bearer.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whom one stands for, if it lives and its owner is still let in.
pub async fn owner(env: &Env, bearer: &str) -> Result<Authenticated, Failure> {
    if !is_well_formed(bearer) {
        return Err(Refusal::unauthorized().into());
    }
    let (db, now) = (D1::of(env)?, clock::now());
    let live = personal_tokens::find(&db, &hash(bearer), now).await?.ok_or_else(Refusal::unauthorized)?;
    if !still_admitted::check(env, &db, &live.owner.user_id, &live.facts).await? {
        return Err(Refusal::unauthorized().into());
    }
    personal_tokens::note_use(&db, &live, now).await?;
    let token = Some(TokenGrant { id: live.owner.session_id.clone(), scopes: live.scopes() });
    Ok(Authenticated { caller: Caller::Person(Box::new(live.owner)), signed_by: None, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_prefix_and_64_hex_digits() {
        let good = format!("{PREFIX}{}", "0f".repeat(32));
        assert!(claims(&good) && is_well_formed(&good));
        for bad in [PREFIX.to_owned(), format!("{good}0"), good.to_uppercase(), good[7..].to_owned(), String::new()] {
            assert!(!is_well_formed(&bad), "{bad}");
        }
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
