//! Asks the sign-in providers again, at an interval, about the accounts of people who are signed in or have tokens; and
//! holds everybody against the lists when the lists have changed.

use std::collections::BTreeMap;

use oi_protocol::UnixMillis;
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, clock};
use serde_json::json;
use worker::Env;

use super::admission::{AllowList, Candidate, Standing, Verdict};
use super::github_sign_in::memberships;
use super::google_sign_in::{GoogleClient, GoogleError};
use super::still_admitted::{send_to_sign_in, shut_out};
use crate::source_control::ForgeError;
use crate::source_control::github::user_account::OauthClient;
use crate::source_control::github::user_tokens;
use crate::store::admissions::{self, Due, Facts, Known};
use crate::store::audit_log::{Author, Entry};
use crate::store::user_identities::{self, Identity};
use crate::store::{D1, Database, users};

/// Pause between two questions about an account, in seconds.
const INTERVAL_SECONDS: i64 = 1_800;
/// Rounds of a hundred people that are held against new lists in a minute.
const ROUNDS: usize = 10;

/// When an account is asked about next. `ADMISSION_RECHECK_SECONDS` is the pause.
pub fn next_check(vars: &impl Vars, now: UnixMillis) -> UnixMillis {
    now.plus(vars.positive_or("ADMISSION_RECHECK_SECONDS", INTERVAL_SECONDS).min(86_400) * 1000)
}

/// What a provider says of an account now.
enum Heard {
    /// This.
    Facts(Facts),
    /// It does not know the sign-in any more.
    Gone,
    /// Nothing: it cannot be asked.
    Mute,
}

/// The minute's share.
pub async fn every_minute(env: &Env) -> Result<(), Failure> {
    let db = D1::of(env)?;
    hold_against_new_lists(env, &db).await?;
    for due in admissions::take_due(&db, clock::now()).await? {
        if let Err(failure) = ask_again(env, &db, &due).await {
            // It is asked again when its lease ends.
            let line = Line::warn("control-plane", "auth.not_rechecked").with("user_id", &due.user_id);
            line.with("error", failure.to_string()).write();
        }
    }
    Ok(())
}

async fn hold_against_new_lists(env: &Env, db: &D1) -> Result<(), Failure> {
    let lists = AllowList::of(env);
    let fingerprint = lists.fingerprint();
    for _ in 0..ROUNDS {
        let known = admissions::of_other_lists(db, &fingerprint).await?;
        if known.is_empty() {
            return Ok(());
        }
        for Known { user_id, facts } in known {
            let facts = admissions::read(&facts);
            let now = clock::now();
            match lists.standing(&facts, now) {
                Standing::Denied => shut_out(env, db, &user_id).await?,
                Standing::Unknown => {
                    db.batch(vec![admissions::held_against(&user_id, &fingerprint)]).await?;
                    admissions::hurry(db, &user_id, now).await?;
                }
                Standing::Admitted => {
                    let mut statements = vec![admissions::held_against(&user_id, &fingerprint)];
                    if lists.names_admin_of(&facts) {
                        statements.push(users::promote(&user_id, now));
                        let named = json!({"role": "admin", "reason": "named by the deployment"});
                        let entry = Entry::new(Author::system(), "role.set", "person", &user_id, now).detail(&named);
                        statements.push(entry.statement_if_changed());
                    }
                    db.batch(statements).await?;
                }
            }
        }
    }
    Ok(())
}

async fn ask_again(env: &Env, db: &D1, due: &Due) -> Result<(), Failure> {
    if due.is_in_use == 0 {
        // Nobody is let in by it; the next sign-in asks anew.
        db.batch(vec![admissions::forget(&due.user_id)]).await?;
        return Ok(());
    }
    let heard = match due.provider.as_str() {
        "github" => ask_github(env, db, due).await?,
        "google" => ask_google(env, db, due).await?,
        _ => Heard::Gone,
    };
    let (lists, now) = (AllowList::of(env), clock::now());
    match heard {
        Heard::Facts(facts) => {
            let due_at = next_check(env, now);
            let stored = admissions::store(&due.identity_id, &due.user_id, &facts, &lists.fingerprint(), due_at);
            db.batch(vec![stored]).await?;
        }
        Heard::Gone => {
            // The tokens, too: what the next sign-in gives takes their place.
            let forgotten =
                [admissions::forget_account(&due.identity_id), user_identities::forget_tokens(&due.identity_id)];
            db.batch(forgotten.to_vec()).await?;
        }
        Heard::Mute => admissions::put_off(db, &due.identity_id, next_check(env, now)).await?,
    }
    let known = admissions::of_person(db, &due.user_id).await?;
    match lists.standing(&known, now) {
        Standing::Denied => shut_out(env, db, &due.user_id).await,
        // Not even a sign-in from long ago is left.
        Standing::Unknown if known.is_empty() => send_to_sign_in(env, db, &due.user_id).await,
        Standing::Admitted | Standing::Unknown => Ok(()),
    }
}

async fn ask_github(env: &Env, db: &D1, due: &Due) -> Result<Heard, Failure> {
    // It is not known whose token would be used.
    if user_identities::has_several(db, &due.user_id, "github").await? {
        return Ok(Heard::Mute);
    }
    let Some(token) = user_tokens::valid_token(db, env, &due.user_id).await? else { return Ok(Heard::Gone) };
    let client = OauthClient::of(env)?;
    let user = match client.user(&token).await {
        Ok(user) => user,
        Err(ForgeError::Status { status: 401 | 404, .. }) => return Ok(Heard::Gone),
        Err(error) => return Err(error.into()),
    };
    if user.id.to_string() != due.provider_user_id {
        return Ok(Heard::Gone);
    }
    let emails = client.verified_emails(&token).await?;
    let candidate = Candidate { login: Some(&user.login), verified_emails: &emails };
    let organizations = match AllowList::of(env).ask(candidate) {
        Verdict::IfMemberOf(wanted) => memberships(&client, &token, &wanted).await?,
        Verdict::Admitted | Verdict::Denied => BTreeMap::new(),
    };
    Ok(Heard::Facts(Facts {
        login: Some(user.login),
        emails: emails.iter().map(|email| email.to_lowercase()).collect(),
        organizations,
        checked_at: clock::now().0,
    }))
}

async fn ask_google(env: &Env, db: &D1, due: &Due) -> Result<Heard, Failure> {
    let identity = Identity { id: due.identity_id.clone(), user_id: due.user_id.clone() };
    let Some(sealed) = user_identities::sealed_refresh_token(db, &identity).await? else { return Ok(Heard::Mute) };
    let refresh_token = user_tokens::open_refresh_token(env, &identity.id, &sealed)
        .map_err(|error| Fault::new("opening a refresh token", error))?;
    match GoogleClient::of(env)?.refresh(&refresh_token).await {
        Ok(given) if given.identity.subject == due.provider_user_id => Ok(Heard::Facts(Facts {
            login: None,
            emails: vec![given.identity.email],
            organizations: BTreeMap::new(),
            checked_at: clock::now().0,
        })),
        Ok(_) | Err(GoogleError::Refused(_) | GoogleError::NoEmail) => Ok(Heard::Gone),
        Err(GoogleError::Failed(failure)) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_asked_about_twice_an_hour_unless_the_deployment_says_otherwise() {
        let at = |seconds: &'static str| {
            let vars = BTreeMap::from([("ADMISSION_RECHECK_SECONDS", seconds)]);
            next_check(&vars, UnixMillis(0)).0
        };
        assert_eq!((at(""), at("5"), at("0"), at("999999999")), (1_800_000, 5_000, 1_800_000, 86_400_000));
    }
}
