//! Who calls: anonymous, the App by its JWT, an installation or a person by token. And what they may do.

use http::{HeaderMap, header};
use serde::Deserialize;

use super::Forge;
use super::api::error::ApiError;
use super::config::Level;
use super::directory::{Account, Repository};
use super::store::tokens::{self, Grant, Token};
use super::store::{StoreError, now};

/// Longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 4_096;
/// How far in the future a JWT may end, in seconds.
const MAX_JWT_SECONDS: i64 = 600;

/// Who makes a request.
#[derive(Debug, Clone)]
pub enum Principal {
    Anonymous,
    /// The App itself, proven by a JWT.
    App,
    Installation(Grant),
    /// A person, by the id of the account.
    User(u64),
}

/// The token of `Authorization: Bearer …` or `token …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")).then(|| token.trim())
}

impl Forge {
    /// Who an API request comes from. Credentials that are there must be good.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Ok(Principal::Anonymous);
        }
        let token = bearer(headers).ok_or_else(ApiError::bad_credentials)?;
        if token.split('.').count() == 3 {
            self.check_jwt(token)?;
            return Ok(Principal::App);
        }
        self.principal_of_token(token)?.ok_or_else(ApiError::bad_credentials)
    }

    /// Whom a token stands for, if it is live.
    pub(super) fn principal_of_token(&self, token: &str) -> Result<Option<Principal>, StoreError> {
        if token.is_empty() || token.len() > MAX_CREDENTIAL_BYTES {
            return Ok(None);
        }
        if self.config.gitlab.as_ref().is_some_and(|gitlab| gitlab.access_token.matches(token)) {
            let permissions = self.config.app.permissions.clone();
            return Ok(Some(Principal::Installation(Grant { permissions, repositories: None })));
        }
        Ok(match self.store.read(|db| tokens::find(db, token))? {
            Some(Token::Installation(grant)) => Some(Principal::Installation(grant)),
            Some(Token::User { user }) if self.directory.account_by_id(user).is_some() => Some(Principal::User(user)),
            _ => None,
        })
    }

    /// Checks an App's JWT as GitHub does: RS256 under the App's key, `iat` not in the future, `exp` ahead and at
    /// most ten minutes away, `iss` the App's id (or its OAuth client id).
    fn check_jwt(&self, token: &str) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Claims {
            iat: Option<serde_json::Number>,
            exp: Option<serde_json::Number>,
            iss: Option<serde_json::Value>,
        }
        let undecodable = || ApiError::unauthorized("A JSON web token could not be decoded");
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(undecodable());
        }
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        // The times are checked below: GitHub gives each its own message and no leeway.
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.app_key, &rules).map_err(|_| undecodable())?.claims;
        let now = now();
        let seconds = |n: Option<serde_json::Number>| n.and_then(|n| n.as_i64());
        let issued = seconds(claims.iat).ok_or_else(|| {
            ApiError::unauthorized(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            )
        })?;
        if issued > now {
            return Err(ApiError::unauthorized(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            ));
        }
        match seconds(claims.exp) {
            Some(exp) if exp > now + MAX_JWT_SECONDS => {
                return Err(ApiError::unauthorized("'Expiration time' claim ('exp') is too far in the future"));
            }
            Some(exp) if exp > now => {}
            _ => {
                return Err(ApiError::unauthorized(
                    "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
                ));
            }
        }
        let issuer = match claims.iss {
            Some(serde_json::Value::String(text)) => text,
            Some(serde_json::Value::Number(number)) => number.to_string(),
            _ => {
                return Err(ApiError::unauthorized("'Issuer' claim ('iss') must be an Integer"));
            }
        };
        if issuer == self.config.app.id.to_string() || issuer == self.config.oauth.client_id {
            Ok(())
        } else {
            Err(ApiError::missing("Integration not found"))
        }
    }

    /// How much a caller may do with one kind of thing (`contents`, `pull_requests`, …) of a repository.
    pub(super) fn level(&self, principal: &Principal, repository: &Repository, permission: &str) -> Level {
        let public = repository.public_level();
        match principal {
            Principal::Anonymous | Principal::App => public,
            Principal::Installation(grant) => {
                let in_scope =
                    repository.installed && grant.repositories.as_ref().is_none_or(|ids| ids.contains(&repository.id));
                if in_scope { public.max(given(&grant.permissions, permission)) } else { public }
            }
            Principal::User(id) => {
                let Some(account) = self.directory.account_by_id(*id) else {
                    return Level::None;
                };
                // A user's token of an App reaches what both the person and the App may.
                if repository.installed {
                    public.max(repository.level_of(&account.login).min(given(&self.config.app.permissions, permission)))
                } else {
                    public
                }
            }
        }
    }

    /// Refuses with 404 who may not even know of the repository, and with 403 who may not do this.
    pub(super) fn require(
        &self,
        principal: &Principal,
        repository: &Repository,
        permission: &str,
        level: Level,
    ) -> Result<(), ApiError> {
        if self.level(principal, repository, "metadata") < Level::Read {
            return Err(ApiError::not_found());
        }
        if self.level(principal, repository, permission) < level {
            return Err(match principal {
                Principal::Anonymous => ApiError::unauthorized("Requires authentication"),
                _ => ApiError::forbidden("Resource not accessible by integration"),
            });
        }
        if level > Level::Read && repository.archived {
            return Err(ApiError::forbidden("Repository was archived so is read-only."));
        }
        Ok(())
    }

    /// The account that acts: the person, or the App's bot.
    pub(super) fn actor(&self, principal: &Principal) -> Option<&Account> {
        match principal {
            Principal::Anonymous => None,
            Principal::App | Principal::Installation(_) => Some(self.directory.bot()),
            Principal::User(id) => self.directory.account_by_id(*id),
        }
    }
}

/// What a set of permissions says of one; every installation may read metadata.
fn given(permissions: &std::collections::BTreeMap<String, Level>, name: &str) -> Level {
    let level = |name: &str| permissions.get(name).copied().unwrap_or(Level::None);
    match name {
        "metadata" => level(name).max(Level::Read),
        // The conversation of a pull request is open to either permission, and other issues aren't kept.
        "issues" => level(name).max(level("pull_requests")),
        _ => level(name),
    }
}
