//! Signing in with GitHub: OAuth with PKCE and a state that is good for one sign-in in one browser.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock, mac, random};

use super::admission::{AllowList, Candidate, Verdict};
use super::browser::BrowserAuth;
use super::cookies::{Cookie, SIGN_IN_LIFE_MS};
use crate::source_control::ForgeError;
use crate::source_control::github::user_account::{GithubUser, OauthClient, OauthError, UserTokens};
use crate::source_control::github::user_tokens;
use crate::store::user_identities::{self, Account};
use crate::store::users::Profile;
use crate::store::{Database, oauth_states};

const CALLBACK_PATH: &str = "/api/auth/callback/github";

/// Where the browser goes, and the cookie that it comes back with.
pub struct Begun {
    /// GitHub's page.
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
}

/// Why somebody is not signed in. The word is in the page's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSignedIn {
    /// They said no at GitHub.
    AccessDenied,
    /// The state is not of this browser, was used, or is too old.
    StateMismatch,
    /// GitHub does not take the code.
    InvalidCode,
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
            Self::NotAllowed => "not_allowed",
            Self::PolicyUnavailable => "policy_unavailable",
        }
    }
}

/// Refuses a deployment whose lists could never admit anybody.
pub fn require_configured(vars: &impl Vars) -> Result<(), Failure> {
    OauthClient::of(vars)?;
    if AllowList::of(vars).can_admit() {
        return Ok(());
    }
    Err(Refusal::not_configured("Nobody may sign in yet: set ALLOWED_USERS or another of the ALLOWED_ lists").into())
}

/// Begins a sign-in that goes on to `wanted`, a path of ours.
pub async fn begin(auth: &BrowserAuth, vars: &impl Vars, db: &impl Database, wanted: &str) -> Result<Begun, Failure> {
    require_configured(vars)?;
    let go_on_to =
        auth.origin.own_path(wanted).ok_or_else(|| Refusal::invalid_body("callbackURL must be a path of this site"))?;
    let state = random::hex::<32>();
    let challenge = URL_SAFE_NO_PAD.encode(mac::sha256(auth.pkce_verifier(&state).as_bytes()));
    oauth_states::begin(db, &auth.state_hash(&state), &go_on_to, clock::now().plus(SIGN_IN_LIFE_MS)).await?;
    let url = OauthClient::of(vars)?.authorize_url(&auth.origin.url(CALLBACK_PATH), &state, &challenge);
    Ok(Begun { url, cookie: Cookie::SignIn.set(&auth.origin, &state) })
}

/// What GitHub sent the browser back with.
pub struct Callback<'a> {
    /// `code`
    pub code: Option<&'a str>,
    /// `state`
    pub state: Option<&'a str>,
    /// `error`
    pub error: Option<&'a str>,
    /// The `Cookie` header.
    pub cookie: Option<&'a str>,
}

/// Ends a sign-in: with a person, or with the reason why not.
pub async fn finish(
    auth: &BrowserAuth,
    vars: &impl Vars,
    db: &impl Database,
    callback: &Callback<'_>,
) -> Result<Result<Finished, NotSignedIn>, Failure> {
    let begun_here = Cookie::SignIn.read(&auth.origin, callback.cookie);
    let state = callback.state.unwrap_or_default();
    if !begun_here.is_some_and(|begun| mac::equal(&begun, state)) {
        return Ok(Err(NotSignedIn::StateMismatch));
    }
    let Some(go_on_to) = oauth_states::take(db, &auth.state_hash(state), clock::now()).await? else {
        return Ok(Err(NotSignedIn::StateMismatch));
    };
    if callback.error.is_some() {
        return Ok(Err(NotSignedIn::AccessDenied));
    }
    let client = OauthClient::of(vars)?;
    let redirect_uri = auth.origin.url(CALLBACK_PATH);
    let code = callback.code.unwrap_or_default();
    let tokens = match client.exchange(code, &redirect_uri, &auth.pkce_verifier(state)).await {
        Ok(tokens) => tokens,
        Err(OauthError::Refused(_)) => return Ok(Err(NotSignedIn::InvalidCode)),
        Err(OauthError::Forge(error)) => return Err(error.into()),
    };
    let user = client.user(&tokens.access_token).await?;
    let emails = client.verified_emails(&tokens.access_token).await?;
    if let Err(reason) = admit(vars, &client, &tokens, &user, &emails).await {
        return Ok(Err(reason));
    }
    let user_id = remember(vars, db, &user, &emails, &tokens).await?;
    Ok(Ok(Finished { go_on_to, user_id }))
}

async fn admit(
    vars: &impl Vars,
    client: &OauthClient,
    tokens: &UserTokens,
    user: &GithubUser,
    emails: &[String],
) -> Result<(), NotSignedIn> {
    let candidate = Candidate { login: &user.login, verified_emails: emails };
    let organizations = match AllowList::of(vars).ask(candidate) {
        Verdict::Admitted => return Ok(()),
        Verdict::Denied => return Err(NotSignedIn::NotAllowed),
        Verdict::IfMemberOf(organizations) => organizations,
    };
    let mut unsure: Option<ForgeError> = None;
    for organization in organizations {
        match client.is_active_member(&tokens.access_token, &organization).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => unsure = Some(error),
        }
    }
    Err(if unsure.is_some() { NotSignedIn::PolicyUnavailable } else { NotSignedIn::NotAllowed })
}

async fn remember(
    vars: &impl Vars,
    db: &impl Database,
    user: &GithubUser,
    emails: &[String],
    tokens: &UserTokens,
) -> Result<String, Failure> {
    let (now, provider_user_id) = (clock::now(), user.id.to_string());
    let email = emails.first();
    let account = Account {
        provider: "github",
        provider_user_id: &provider_user_id,
        login: Some(&user.login),
        email: email.map(String::as_str),
    };
    let profile = Profile {
        display_name: Some(
            user.name.clone().filter(|name| !name.trim().is_empty()).unwrap_or_else(|| user.login.clone()),
        ),
        verified_email: email.cloned(),
        avatar_url: user.avatar_url.clone(),
    };
    let new_ids = (random::hex::<16>(), random::hex::<16>());
    let identity = user_identities::find_or_create(db, &account, &profile, (&new_ids.0, &new_ids.1), now).await?;
    let key = user_tokens::sealing_key(vars)?;
    let sealed = user_tokens::seal(&key, &identity.id, tokens, now)
        .map_err(|error| Fault::new("sealing a user's token", error))?;
    user_identities::set_tokens(db, &sealed, None, now).await?;
    Ok(identity.user_id)
}
