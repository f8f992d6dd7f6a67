//! The key that commits are signed with, as people set it. It is shown to nobody.

use oi_protocol::UnixMillis;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::key_ring::KeyRing;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, mac, reply, request_body};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Response;

use super::provider_tokens::sandbox_session;
use super::settings_request::{actor, stale};
use crate::commit_signing::{Key, is_signable};
use crate::request::Cx;
use crate::secret_injection::KEY_VARIABLE;
use crate::store::commit_signing::{self as store, Configuration, New};
use crate::store::{D1, Database};

const KEY_MAX: usize = 16_384;
const NAME_MAX: usize = 256;
const EMAIL_MAX: usize = 320;

fn keys(cx: &Cx<'_>) -> Result<KeyRing, Refusal> {
    KeyRing::of(cx.env, KEY_VARIABLE)
}

fn shown(found: Option<Configuration>) -> Value {
    match found {
        None => json!({"enabled": false}),
        Some(found) => json!({
            "enabled": true,
            "committerName": found.committer_name,
            "committerEmail": found.committer_email,
            "publicKey": found.public_key,
            "fingerprint": found.fingerprint,
            "updatedAt": clock::iso8601(UnixMillis(found.updated_at)),
            "version": found.version,
        }),
    }
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &shown(store::get(&cx.db()?).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    private_key: String,
    committer_name: String,
    committer_email: String,
    #[serde(default)]
    version: Option<u32>,
}

/// A name or an address as git writes it into a commit.
fn identity(text: &str, max: usize) -> Option<&str> {
    let text = text.trim();
    let fits =
        (1..=max).contains(&text.chars().count()) && !text.contains(|c: char| c.is_control() || c == '<' || c == '>');
    fits.then_some(text)
}

/// `x@y.z`: sandboxes take no other, and would run no prompt.
fn is_address(text: &str) -> bool {
    let parts = text.split_once('@').and_then(|(local, domain)| Some((local, domain.rsplit_once('.')?)));
    let parts = parts.is_some_and(|(local, (domain, last))| [local, domain, last].iter().all(|part| !part.is_empty()));
    parts && text.matches('@').count() == 1 && !text.contains(char::is_whitespace)
}

fn checked(wanted: &Wanted) -> Result<(Key, &str, &str), Refusal> {
    if wanted.private_key.len() > KEY_MAX {
        return Err(Refusal::invalid_body("privateKey must have 16384 characters at most"));
    }
    let name = identity(&wanted.committer_name, NAME_MAX)
        .ok_or_else(|| Refusal::invalid_body("committerName must have 1 to 256 characters"))?;
    let email = identity(&wanted.committer_email, EMAIL_MAX).filter(|email| is_address(email));
    let email =
        email.ok_or_else(|| Refusal::invalid_body("committerEmail must be an e-mail of 320 characters at most"))?;
    Ok((Key::parse(&wanted.private_key)?, name, email))
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    let wanted: Wanted = request_body::parse(&cx.body, "Invalid commit signing body")?;
    let (key, name, email) = checked(&wanted)?;
    let sealed = keys(cx)?.seal(&wanted.private_key, store::PLACE);
    let sealed = sealed.map_err(while_doing("sealing the commit signing key"))?;
    let (public_key, fingerprint) = (key.public_key(), key.fingerprint());
    let new = New {
        sealed: &sealed,
        committer_name: name,
        committer_email: email,
        public_key: &public_key,
        fingerprint: &fingerprint,
    };
    let db = cx.db()?;
    let change = store::put(&new, wanted.version.map(i64::from), &actor(cx), clock::now());
    let entry = cx.audit("commit_signing.set", "commit_signing", "global");
    let entry = entry.detail(&json!({"fingerprint": fingerprint}));
    if db.batch(entry.behind_the_first(vec![change])).await?.first() == Some(&0) {
        return Err(stale("Commit signing").into());
    }
    reply::json(200, &shown(store::get(&db).await?))
}

pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let entry = cx.audit("commit_signing.delete", "commit_signing", "global");
    cx.db()?.batch(entry.behind_the_first(vec![store::delete()])).await?;
    reply::json(200, &json!({"enabled": false}))
}

/// What a sandbox tells git of the key: nothing secret, and nothing is opened for it.
pub(super) async fn for_sandbox(cx: &Cx<'_>) -> Result<Response, Failure> {
    sandbox_session(cx).await?;
    let found = store::get(&D1::of(cx.env)?).await?;
    let body = match found {
        None => json!({"enabled": false}),
        Some(found) => json!({
            "enabled": true,
            "committerName": found.committer_name,
            "committerEmail": found.committer_email,
            "publicKey": found.public_key,
        }),
    };
    reply::json(200, &body)
}

/// Signs a commit or a tag for a sandbox, while the key is the one that it was told of.
pub(super) async fn sign(cx: &Cx<'_>) -> Result<Response, Failure> {
    let seen = cx.head.header("X-Open-Inspect-Signing-Fingerprint");
    let seen = seen.ok_or_else(|| Refusal::invalid_parameter("X-Open-Inspect-Signing-Fingerprint is required"))?;
    if cx.body.is_empty() {
        return Err(Refusal::invalid_body("The payload to sign is required").into());
    }
    let session = sandbox_session(cx).await?;
    let db = cx.db()?;
    let found = store::get(&db).await?.ok_or_else(|| Refusal::conflict("Commit signing is disabled"))?;
    let changed = || Refusal::conflict("Commit signing key changed");
    if found.fingerprint != seen {
        return Err(changed().into());
    }
    if !is_signable(&cx.body, &found.committer_name, &found.committer_email) {
        let sentence = "Only a git commit or tag of the configured committer is signed";
        return Err(Refusal::invalid_body(sentence).into());
    }
    let sealed = store::sealed(&db, &seen).await?.ok_or_else(changed)?;
    let text = keys(cx)?.open(&sealed, store::PLACE).map_err(while_doing("opening the commit signing key"))?;
    let key = Key::parse(&text)?;
    Line::info("control-plane", "commit_signing.signed")
        .trace(cx.trace)
        .with("session_id", session.as_str())
        .with("payload_sha256", mac::sha256_hex(&cx.body))
        .write();
    reply::text(200, key.sign(&cx.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_sandboxes_take() {
        assert!(is_address("bot@acme.example") && is_address("a+b@c.d.e"));
        for bad in ["", "bot", "bot@acme", "@acme.example", "a@b@c.d", "a b@c.d", "a@.d", "a@b."] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn who_commits_is_one_line_and_no_address_syntax() {
        assert_eq!(identity(" Open Inspect ", 256), Some("Open Inspect"));
        for bad in ["", "  ", "a\nb", "a <b@c>", "x>y", &"x".repeat(257)] {
            assert_eq!(identity(bad, 256), None, "{bad}");
        }
    }
}
