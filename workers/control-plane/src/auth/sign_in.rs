//! Signing in: OAuth with PKCE and a state that is good for one sign-in with one provider in one browser.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock, mac, random};
use serde_json::json;

use super::admission::AllowList;
use super::browser::BrowserAuth;
use super::cookies::{Cookie, SIGN_IN_LIFE_MS};
use super::recheck::next_check;
use super::{github_sign_in, google_sign_in};
use crate::source_control::github::user_account::UserTokens;
use crate::source_control::github::user_tokens;
use crate::store::admissions::{self, Facts};
use crate::store::audit_log::{Author, Entry};
use crate::store::user_identities::{self, Account};
use crate::store::users::{self, Profile};
use crate::store::{Database, oauth_states};

/// Who vouches for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// OAuth.
    Github,
    /// OpenID Connect.
    Google,
}

impl Provider {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Github, Self::Google];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Google => "google",
        }
    }

    /// From the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == word)
    }

    const fn callback_path(self) -> &'static str {
        match self {
            Self::Github => "/api/auth/callback/github",
            Self::Google => "/api/auth/callback/google",
        }
    }

    /// Refuses a deployment that lacks a setting, or whose lists could never admit anybody through it.
    pub fn require_configured(self, vars: &impl Vars) -> Result<(), Failure> {
        match self {
            Self::Github => github_sign_in::require_configured(vars),
            Self::Google => google_sign_in::require_configured(vars),
        }
    }
}

/// Where the browser goes, and the cookie that it comes back with.
pub struct Begun {
    /// The provider's page.
    pub url: String,
    /// `Set-Cookie`
    pub cookie: String,
}

/// A person has signed in.
pub struct Finished {
    /// A path of ours.
    pub go_on_to: String,
    /// The person.
    pub user_id: String,
    /// `Set-Cookie`
    pub cookie: String,
}

/// Why somebody is not signed in. The word is in the page's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSignedIn {
    /// They said no at the provider.
    AccessDenied,
    /// The state is not of this browser, was used, is too old, or is of another provider.
    StateMismatch,
    /// The provider does not take the code, or what it answers proves nothing.
    InvalidCode,
    /// The account has no e-mail that the provider verified.
    EmailNotVerified,
    /// The lists do not have them.
    NotAllowed,
    /// The lists could not be asked.
    PolicyUnavailable,
}

impl NotSignedIn {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::StateMismatch => "state_mismatch",
            Self::InvalidCode => "invalid_code",
            Self::EmailNotVerified => "email_not_verified",
            Self::NotAllowed => "not_allowed",
            Self::PolicyUnavailable => "policy_unavailable",
        }
    }
}

/// What a provider has proven of who signs in, and that the lists have them.
pub struct Proven {
    /// The provider's id, which never changes.
    pub provider_user_id: String,
    /// Login, where the provider has such.
    pub login: Option<String>,
    /// The name to show.
    pub name: Option<String>,
    /// URL of a picture.
    pub avatar_url: Option<String>,
    /// Verified e-mails, the primary one first.
    pub verified_emails: Vec<String>,
    /// Organizations that were asked for.
    pub organizations: BTreeMap<String, bool>,
    /// Tokens to keep.
    pub tokens: Option<UserTokens>,
}

/// What the provider's page is asked with.
pub struct Asked<'a> {
    /// Where it sends the browser back to.
    pub redirect_uri: &'a str,
    /// `state`
    pub state: &'a str,
    /// The challenge of PKCE, S256.
    pub challenge: &'a str,
    /// What an ID token must hold.
    pub nonce: &'a str,
}

/// What the provider's answer is proven with.
pub struct Answered<'a> {
    /// `code`
    pub code: &'a str,
    /// As it was asked with.
    pub redirect_uri: &'a str,
    /// The verifier of PKCE.
    pub verifier: &'a str,
    /// What an ID token must hold.
    pub nonce: &'a str,
}

/// Begins a sign-in that goes on to `wanted`, a path of ours.
pub async fn begin(
    auth: &BrowserAuth,
    vars: &impl Vars,
    db: &impl Database,
    provider: Provider,
    wanted: &str,
) -> Result<Begun, Failure> {
    provider.require_configured(vars)?;
    let go_on_to =
        auth.origin.own_path(wanted).ok_or_else(|| Refusal::invalid_body("callbackURL must be a path of this site"))?;
    let state = random::hex::<32>();
    let challenge = URL_SAFE_NO_PAD.encode(mac::sha256(auth.pkce_verifier(&state).as_bytes()));
    let expires_at = clock::now().plus(SIGN_IN_LIFE_MS);
    oauth_states::begin(db, &auth.state_hash(provider.as_str(), &state), &go_on_to, expires_at).await?;
    let redirect_uri = auth.origin.url(provider.callback_path());
    let nonce = auth.nonce(&state);
    let asked = Asked { redirect_uri: &redirect_uri, state: &state, challenge: &challenge, nonce: &nonce };
    let url = match provider {
        Provider::Github => github_sign_in::authorize_url(vars, &asked)?,
        Provider::Google => google_sign_in::authorize_url(vars, &asked)?,
    };
    Ok(Begun { url, cookie: Cookie::SignIn.set(&auth.origin, &state) })
}

/// What the provider sent the browser back with, and the browser itself.
pub struct Callback<'a> {
    /// `code`
    pub code: Option<&'a str>,
    /// `state`
    pub state: Option<&'a str>,
    /// `error`
    pub error: Option<&'a str>,
    /// The `Cookie` header.
    pub cookie: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
    /// Of the request, for the audit log.
    pub request_id: &'a str,
}

/// Ends a sign-in: with a person and their session, or with the reason why not.
pub async fn finish(
    auth: &BrowserAuth,
    vars: &impl Vars,
    db: &impl Database,
    provider: Provider,
    callback: &Callback<'_>,
) -> Result<Result<Finished, NotSignedIn>, Failure> {
    let begun_here = Cookie::SignIn.read(&auth.origin, callback.cookie);
    let state = callback.state.unwrap_or_default();
    if !begun_here.is_some_and(|begun| mac::equal(&begun, state)) {
        return Ok(Err(NotSignedIn::StateMismatch));
    }
    let hash = auth.state_hash(provider.as_str(), state);
    let Some(go_on_to) = oauth_states::take(db, &hash, clock::now()).await? else {
        return Ok(Err(NotSignedIn::StateMismatch));
    };
    if callback.error.is_some() {
        return Ok(Err(NotSignedIn::AccessDenied));
    }
    let redirect_uri = auth.origin.url(provider.callback_path());
    let (verifier, nonce) = (auth.pkce_verifier(state), auth.nonce(state));
    let answered = Answered {
        code: callback.code.unwrap_or_default(),
        redirect_uri: &redirect_uri,
        verifier: &verifier,
        nonce: &nonce,
    };
    let proven = match provider {
        Provider::Github => github_sign_in::prove(vars, &answered).await?,
        Provider::Google => google_sign_in::prove(vars, &answered).await?,
    };
    let proven = match proven {
        Ok(proven) => proven,
        Err(reason) => return Ok(Err(reason)),
    };
    let (user_id, cookie) = remember(auth, vars, db, provider, &proven, callback).await?;
    Ok(Ok(Finished { go_on_to, user_id, cookie }))
}

/// Finds or makes the person, takes over what is newly known, and begins their session: in the order in which a crash
/// between two steps lets nobody in.
async fn remember(
    auth: &BrowserAuth,
    vars: &impl Vars,
    db: &impl Database,
    provider: Provider,
    proven: &Proven,
    callback: &Callback<'_>,
) -> Result<(String, String), Failure> {
    let now = clock::now();
    let email = proven.verified_emails.first();
    let account = Account {
        provider: provider.as_str(),
        provider_user_id: &proven.provider_user_id,
        login: proven.login.as_deref(),
        email: email.map(String::as_str),
    };
    let profile = Profile {
        display_name: proven.name.clone().filter(|name| !name.trim().is_empty()).or_else(|| proven.login.clone()),
        verified_email: email.cloned(),
        avatar_url: proven.avatar_url.clone(),
    };
    let new_ids = (random::hex::<16>(), random::hex::<16>());
    let identity = user_identities::find_or_create(db, &account, &profile, (&new_ids.0, &new_ids.1), now).await?;
    if let Some(tokens) = &proven.tokens {
        let key = user_tokens::sealing_key(vars)?;
        let sealed = user_tokens::seal(&key, &identity.id, tokens, now)
            .map_err(|error| Fault::new("sealing a user's token", error))?;
        user_identities::set_tokens(db, &sealed, None, now).await?;
    }
    let lists = AllowList::of(vars);
    let facts = Facts {
        login: proven.login.clone(),
        emails: proven.verified_emails.iter().map(|email| email.to_lowercase()).collect(),
        organizations: proven.organizations.clone(),
        checked_at: now.0,
    };
    let user_id = identity.user_id;
    let mut statements =
        vec![admissions::store(&identity.id, &user_id, &facts, &lists.fingerprint(), next_check(vars, now))];
    if lists.names_admin_of(std::slice::from_ref(&facts)) {
        statements.push(users::promote(&user_id, now));
        let named = json!({"role": "admin", "reason": "named by the deployment"});
        let entry = Entry::new(Author::system(), "role.set", "person", &user_id, now).detail(&named);
        statements.push(entry.statement_if_changed());
    }
    statements.push(users::let_in(&user_id));
    let (cookie, session) = auth.begin(&user_id, callback.user_agent, now);
    statements.push(session);
    let by = Author::person(&user_id, callback.request_id);
    let with = json!({"provider": provider.as_str()});
    statements.push(Entry::new(by, "person.sign_in", "person", &user_id, now).detail(&with).statement());
    db.batch(statements).await?;
    Ok((user_id, cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_known_by_their_words() {
        for provider in Provider::ALL {
            assert_eq!(Provider::parse(provider.as_str()), Some(provider));
            assert!(provider.callback_path().ends_with(provider.as_str()));
        }
        assert_eq!(Provider::parse("GitHub"), None);
    }
}
