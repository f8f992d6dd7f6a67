//! Events posted to the configured webhook, signed and shaped as GitHub's. Deliveries wait in memory: one that a
//! restart cuts off is lost, as one that GitHub gives up on is.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Forge;
use super::api::error::ApiError;
use super::api::{pulls_json, repository_json, simple_user};
use super::config::{Level, WebhookConfig};
use super::directory::{Account, AccountKind, Repository};
use super::git::Commit;
use super::names::{BranchName, Sha};
use super::store::pulls::Pull;

/// Most deliveries that wait.
const MAX_WAITING: usize = 1_000;
/// Attempts for one delivery, and the pause before the second; it doubles each time.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest that a receiver may take, as on GitHub.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most commits of a push that its event names.
const MAX_COMMITS: usize = 20;

struct Delivery {
    event: &'static str,
    id: String,
    body: Vec<u8>,
}

/// Where events go; nowhere when no webhook is configured.
pub struct Webhooks {
    queue: Option<mpsc::Sender<Delivery>>,
}

impl Webhooks {
    /// Starts the one task that delivers, in order.
    pub fn start(config: Option<WebhookConfig>) -> Self {
        let queue = config.map(|config| {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            tokio::spawn(deliver_all(config, receiver));
            sender
        });
        Self { queue }
    }

    fn wanted(&self) -> bool {
        self.queue.is_some()
    }

    fn send(&self, event: &'static str, payload: &Value) {
        let Some(queue) = &self.queue else { return };
        let delivery = Delivery { event, id: delivery_id(), body: payload.to_string().into_bytes() };
        if queue.try_send(delivery).is_err() {
            error!(event, "a webhook is dropped: too many wait");
        }
    }
}

async fn deliver_all(config: WebhookConfig, mut queue: mpsc::Receiver<Delivery>) {
    let client = match reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent("GitHub-Hookshot/devkit")
        .build()
    {
        Ok(client) => client,
        Err(error) => {
            error!(%error, "webhooks can't be sent");
            return;
        }
    };
    while let Some(delivery) = queue.recv().await {
        deliver(&client, &config, delivery).await;
    }
}

async fn deliver(client: &reqwest::Client, config: &WebhookConfig, delivery: Delivery) {
    let signature = signature(config.secret.expose(), &delivery.body);
    let (event, id) = (delivery.event, &delivery.id);
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        let answer = client
            .post(config.url.clone())
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", &signature)
            .body(delivery.body.clone())
            .send()
            .await;
        let reason = match answer {
            Ok(answer) if answer.status().is_success() => {
                info!(event, delivery = %id, attempt, "webhook delivered");
                return;
            }
            // Trying again won't make a refused delivery better.
            Ok(answer) if answer.status().is_client_error() && answer.status() != 429 => {
                error!(event, delivery = %id, status = answer.status().as_u16(), "webhook refused");
                return;
            }
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.without_url().to_string(),
        };
        warn!(event, delivery = %id, attempt, %reason, "webhook not delivered");
        if attempt < ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    error!(event, delivery = %id, "webhook given up");
}

/// `sha256=` and the HMAC of the body in hex.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A random UUID.
fn delivery_id() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        error!("the random source failed; a delivery has no id of its own");
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Tells of a pull request. `moved` holds the head before and after, for `synchronize`.
pub async fn pull_request(
    forge: &Forge,
    repository: &Repository,
    pull: &Pull,
    action: &str,
    sender: &Account,
    moved: Option<(&Sha, &Sha)>,
) {
    if !forge.webhooks.wanted() || !repository.installed {
        return;
    }
    let payload = async {
        let mut payload = common(forge, repository, sender);
        payload["action"] = action.into();
        payload["number"] = pull.number.into();
        payload["pull_request"] = pulls_json::full(forge, repository, pull).await?;
        if let Some((before, after)) = moved {
            payload["before"] = before.as_str().into();
            payload["after"] = after.as_str().into();
        }
        Ok::<_, ApiError>(payload)
    };
    match payload.await {
        Ok(payload) => forge.webhooks.send("pull_request", &payload),
        Err(error) => error!(?error, "a pull request's event could not be made"),
    }
}

/// Tells of a branch that was made, moved or deleted.
pub async fn push(
    forge: &Forge,
    repository: &Repository,
    (branch, before, after): (&BranchName, Option<&Sha>, Option<&Sha>),
    sender: &Account,
) {
    if !forge.webhooks.wanted() || !repository.installed {
        return;
    }
    let payload = async {
        let zero = Sha::zero();
        let from = before.unwrap_or(&zero);
        let to = after.unwrap_or(&zero);
        let (commits, forced) = match (before, after) {
            (Some(before), Some(after)) => {
                let base = forge.git.merge_base(repository.id, before, after).await?;
                let commits = forge.git.commits_between(repository.id, before, after, MAX_COMMITS).await?;
                (commits, base.as_ref() != Some(before))
            }
            (None, Some(after)) => {
                let default = forge.git.branch_head(repository.id, &repository.default_branch).await?;
                let commits = match default {
                    Some(default) => forge.git.commits_between(repository.id, &default, after, MAX_COMMITS).await?,
                    None => Vec::new(),
                };
                (commits, false)
            }
            _ => (Vec::new(), false),
        };
        let head = match after {
            Some(after) => forge.git.commit(repository.id, after).await?,
            None => None,
        };
        let mut payload = common(forge, repository, sender);
        let more = json!({
            "ref": branch.full_ref(),
            "before": from.as_str(),
            "after": to.as_str(),
            "created": before.is_none(),
            "deleted": after.is_none(),
            "forced": forced,
            "base_ref": null,
            "compare": forge.url(&format!("/{}/compare/{}...{}", repository.full_name(), from.short(), to.short())),
            "commits": commits.iter().map(|c| commit_json(forge, repository, c)).collect::<Vec<_>>(),
            "head_commit": head.map(|c| commit_json(forge, repository, &c)),
            "pusher": { "name": sender.login, "email": sender.noreply_email() },
        });
        if let (Value::Object(payload), Value::Object(more)) = (&mut payload, more) {
            payload.extend(more);
        }
        Ok::<_, ApiError>(payload)
    };
    match payload.await {
        Ok(payload) => forge.webhooks.send("push", &payload),
        Err(error) => error!(?error, "a push event could not be made"),
    }
}

/// What every event carries.
fn common(forge: &Forge, repository: &Repository, sender: &Account) -> Value {
    let mut payload = json!({
        "repository": repository_json::repository(forge, repository, Level::Read),
        "sender": simple_user(forge, sender),
        "installation": {
            "id": forge.config.app.installation_id,
            "node_id": super::api::node_id("Installation", forge.config.app.installation_id),
        },
    });
    if let Some(owner) =
        forge.directory.account_by_id(repository.owner_id).filter(|a| a.kind == AccountKind::Organization)
    {
        payload["organization"] = super::api::organization(forge, owner);
    }
    payload
}

fn commit_json(forge: &Forge, repository: &Repository, commit: &Commit) -> Value {
    let person = |person: &super::git::Person| {
        let mut value = json!({
            "name": person.name,
            "email": person.email,
            "date": person.at.to_string(),
        });
        if let Some(account) = forge.directory.account_by_email(&person.email) {
            value["username"] = account.login.as_str().into();
        }
        value
    };
    json!({
        "id": commit.sha.as_str(),
        "tree_id": commit.tree.as_str(),
        "distinct": true,
        "message": commit.message,
        "timestamp": commit.committer.at.to_string(),
        "url": forge.url(&format!("/{}/commit/{}", repository.full_name(), commit.sha)),
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "added": [],
        "removed": [],
        "modified": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_githubs() {
        // The vector of GitHub's documentation.
        assert_eq!(
            signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
