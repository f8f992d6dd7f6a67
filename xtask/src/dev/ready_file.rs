//! What a program that started a stack needs to know, written when all is up and again when a pid changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::env_file::write_private;
use super::secrets::Secrets;
use super::stack::Addresses;
use crate::failure::{Failure, Result};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyFile<'a> {
    base_url: &'a str,
    /// Of the `web` service.
    service_auth_secret: &'a str,
    service_auth_secrets: BTreeMap<&'static str, &'a str>,
    forge_url: &'a str,
    forge_admin_secret: &'a str,
    /// The stand-in for Google; it has the same admin secret.
    google_url: &'a str,
    model_url: Option<&'a str>,
    sandbox_host_url: &'a str,
    sandbox_host_secret: &'a str,
    slack_url: Option<&'a str>,
    github_url: Option<&'a str>,
    linear_url: Option<&'a str>,
    webhook_secrets: BTreeMap<&'static str, &'a str>,
    state_dir: &'a Path,
    logs_dir: PathBuf,
    pids: &'a BTreeMap<String, u32>,
}

/// Whole or not at all, readable by its owner only.
pub fn write(path: &Path, at: &Addresses, secrets: &Secrets, state: &Path, pids: &BTreeMap<String, u32>) -> Result<()> {
    let file = ReadyFile {
        base_url: &at.control_plane,
        service_auth_secret: &secrets.service_auth_web,
        service_auth_secrets: BTreeMap::from([
            ("web", secrets.service_auth_web.as_str()),
            ("slack-bot", &secrets.service_auth_slack_bot),
            ("github-bot", &secrets.service_auth_github_bot),
            ("linear-bot", &secrets.service_auth_linear_bot),
        ]),
        forge_url: &at.forge,
        forge_admin_secret: &secrets.forge_admin_secret,
        google_url: &at.google,
        model_url: at.model.as_deref(),
        sandbox_host_url: &at.sandbox_host,
        sandbox_host_secret: &secrets.sandbox_host_secret,
        slack_url: at.slack.as_deref(),
        github_url: at.github.as_deref(),
        linear_url: at.linear.as_deref(),
        webhook_secrets: BTreeMap::from([
            ("slack", secrets.slack_signing_secret.as_str()),
            ("github", &secrets.github_webhook_secret),
            ("linear", &secrets.linear_webhook_secret),
        ]),
        state_dir: state,
        logs_dir: state.join("logs"),
        pids,
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(|error| Failure::content(path, error))?;
    write_private(path, &bytes)
}
