//! People.

use axum::Json;
use axum::extract::{Path, State};
use http::HeaderMap;
use serde_json::{Value, json};

use super::accounts_json::{merge, organization, public_user, simple_user};
use super::error::ApiError;
use crate::forge::auth::Principal;
use crate::forge::config::{Level, OrganizationRole};
use crate::forge::directory::{Account, AccountKind};
use crate::forge::{Forge, Shared};

pub async fn me(State(forge): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let account = person(&forge, &headers)?;
    let mut user = public_user(&forge, account);
    merge(
        &mut user,
        json!({
            "notification_email": null,
            "private_gists": 0,
            "total_private_repos": 0,
            "owned_private_repos": 0,
            "disk_usage": 0,
            "collaborators": 0,
            "two_factor_authentication": true,
        }),
    );
    Ok(Json(user))
}

pub async fn emails(State(forge): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let account = person(&forge, &headers)?;
    Ok(Json(json!([
        {
            "email": account.email,
            "primary": true,
            "verified": true,
            "visibility": "private",
        },
        {
            "email": account.noreply_email(),
            "primary": false,
            "verified": true,
            "visibility": null,
        },
    ])))
}

pub async fn membership(
    State(forge): State<Shared>,
    Path(org): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let account = person(&forge, &headers)?;
    if forge.config.app.permissions.get("members").is_none_or(|level| *level < Level::Read) {
        return Err(ApiError::forbidden("Resource not accessible by integration"));
    }
    let organization_account = forge
        .directory
        .account(&org)
        .filter(|a| a.kind == AccountKind::Organization)
        .ok_or_else(ApiError::not_found)?;
    let role = organization_account.members.get(&account.login.to_ascii_lowercase()).ok_or_else(ApiError::not_found)?;
    let organization = organization(&forge, organization_account);
    Ok(Json(json!({
        "url": forge.url(&format!("/api/v3/orgs/{}/memberships/{}", organization_account.login, account.login)),
        "state": "active",
        "role": match role {
            OrganizationRole::Admin => "admin",
            OrganizationRole::Member => "member",
        },
        "organization_url": organization["url"],
        "organization": organization,
        "user": simple_user(&forge, account),
    })))
}

pub async fn user(
    State(forge): State<Shared>,
    Path(login): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    forge.principal(&headers)?;
    let account = forge.directory.account(&login).ok_or_else(ApiError::not_found)?;
    Ok(Json(public_user(&forge, account)))
}

/// The person whose token this is.
fn person<'a>(forge: &'a Forge, headers: &HeaderMap) -> Result<&'a Account, ApiError> {
    match forge.principal(headers)? {
        Principal::User(id) => forge.directory.account_by_id(id).ok_or_else(ApiError::bad_credentials),
        Principal::Anonymous => Err(ApiError::unauthorized("Requires authentication")),
        Principal::App | Principal::Installation(_) => {
            Err(ApiError::forbidden("Resource not accessible by integration"))
        }
    }
}
