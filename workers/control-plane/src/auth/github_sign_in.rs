//! GitHub as a sign-in provider: its OAuth, its profile, its organizations.

use std::collections::BTreeMap;

use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};

use super::admission::{AllowList, Candidate, Verdict};
use super::sign_in::{Answered, Asked, NotSignedIn, Proven};
use crate::source_control::ForgeError;
use crate::source_control::github::user_account::{OauthClient, OauthError};

/// Refuses a deployment that lacks a setting, or whose lists could never admit anybody.
pub fn require_configured(vars: &impl Vars) -> Result<(), Failure> {
    OauthClient::of(vars)?;
    if AllowList::of(vars).can_admit() {
        return Ok(());
    }
    Err(Refusal::not_configured("Nobody may sign in yet: set ALLOWED_USERS or another of the ALLOWED_ lists").into())
}

/// GitHub's page.
pub fn authorize_url(vars: &impl Vars, asked: &Asked<'_>) -> Result<String, Failure> {
    Ok(OauthClient::of(vars)?.authorize_url(asked.redirect_uri, asked.state, asked.challenge))
}

/// Exchanges the code, and asks GitHub and the lists who this is.
pub async fn prove(vars: &impl Vars, answered: &Answered<'_>) -> Result<Result<Proven, NotSignedIn>, Failure> {
    let client = OauthClient::of(vars)?;
    let tokens = match client.exchange(answered.code, answered.redirect_uri, answered.verifier).await {
        Ok(tokens) => tokens,
        Err(OauthError::Refused(_)) => return Ok(Err(NotSignedIn::InvalidCode)),
        Err(OauthError::Forge(error)) => return Err(error.into()),
    };
    let user = client.user(&tokens.access_token).await?;
    let verified_emails = client.verified_emails(&tokens.access_token).await?;
    let candidate = Candidate { login: Some(&user.login), verified_emails: &verified_emails };
    let organizations = match AllowList::of(vars).ask(candidate) {
        Verdict::Admitted => BTreeMap::new(),
        Verdict::Denied => return Ok(Err(NotSignedIn::NotAllowed)),
        Verdict::IfMemberOf(wanted) => match memberships(&client, &tokens.access_token, &wanted).await {
            Ok(memberships) if memberships.values().any(|member| *member) => memberships,
            Ok(_) => return Ok(Err(NotSignedIn::NotAllowed)),
            Err(_) => return Ok(Err(NotSignedIn::PolicyUnavailable)),
        },
    };
    Ok(Ok(Proven {
        provider_user_id: user.id.to_string(),
        login: Some(user.login),
        name: user.name,
        avatar_url: user.avatar_url,
        verified_emails,
        organizations,
        tokens: Some(tokens),
    }))
}

/// In which of the organizations somebody is an active member. One that has them is enough; when none has, and one
/// could not be asked, that is an error.
pub async fn memberships(
    client: &OauthClient,
    access_token: &str,
    wanted: &[String],
) -> Result<BTreeMap<String, bool>, ForgeError> {
    let (mut known, mut unsure) = (BTreeMap::new(), None);
    for organization in wanted {
        match client.is_active_member(access_token, organization).await {
            Ok(member) => {
                known.insert(organization.clone(), member);
                if member {
                    return Ok(known);
                }
            }
            Err(error) => unsure = Some(error),
        }
    }
    unsure.map_or(Ok(known), Err)
}
