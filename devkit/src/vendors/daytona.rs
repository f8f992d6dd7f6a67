//! A stand-in for Daytona's API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::edge::{Asked, Said, Vendor};
use super::published::Published;

const SANDBOX: &str = "/sandbox/{sandboxIdOrName}";

/// A sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The vendor's id.
    pub id: String,
    /// Unique among those that live.
    pub name: String,
    /// `started`, `stopped`, `error`, …
    pub state: String,
    /// What it was started from.
    pub snapshot: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether an error can be recovered from.
    pub recoverable: bool,
}

/// The cloud.
pub struct Daytona {
    /// The one key that is good.
    pub key: String,
    /// Sandboxes, oldest first, with those that are gone.
    pub sandboxes: Vec<Sandbox>,
    /// Snapshots by name: how often each must still be asked for before it is there.
    pub snapshots: BTreeMap<String, u32>,
    /// Snapshots that will fail.
    pub doomed: BTreeSet<String>,
    published: Published,
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

impl Daytona {
    /// With one key and one snapshot to begin with.
    pub fn new(key: &str, base_snapshot: &str) -> Self {
        Self {
            key: key.to_owned(),
            sandboxes: Vec::new(),
            snapshots: BTreeMap::from([(base_snapshot.to_owned(), 0)]),
            doomed: BTreeSet::new(),
            published: Published::daytona(),
        }
    }

    fn described(sandbox: &Sandbox) -> Value {
        json!({
            "id": sandbox.id, "organizationId": "org", "name": sandbox.name, "user": "root", "env": sandbox.env,
            "labels": sandbox.labels, "public": false, "networkBlockAll": false, "target": "eu", "cpu": 2, "gpu": 0,
            "memory": 4, "disk": 10, "toolboxProxyUrl": "https://proxy.daytona.example/toolbox",
            "snapshot": sandbox.snapshot, "state": sandbox.state, "recoverable": sandbox.recoverable,
        })
    }

    fn found(&mut self, id_or_name: &str) -> Result<&mut Sandbox, Said> {
        let known = |sandbox: &&mut Sandbox| sandbox.id == id_or_name || sandbox.name == id_or_name;
        let mut alive = self.sandboxes.iter_mut().filter(|sandbox| sandbox.state != "destroyed");
        alive.find(known).ok_or_else(|| Said::error(404, &format!("Sandbox with ID or name {id_or_name} not found")))
    }

    /// Lets a sandbox take another state, when it has one of these.
    fn moved(&mut self, operation: &str, id: &str, from: &[&str], to: &str) -> Result<Said, Said> {
        let sandbox = self.found(id)?;
        if !from.contains(&sandbox.state.as_str()) {
            return Err(Said::error(409, &format!("Sandbox is {}", sandbox.state)));
        }
        to.clone_into(&mut sandbox.state);
        let described = Self::described(sandbox);
        Ok(self.published.answer(operation, 200, &described))
    }

    fn create(&mut self, asked: &Asked) -> Result<Said, Said> {
        let body = self.published.request("POST /sandbox", asked)?;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        let snapshot = body["snapshot"].as_str().unwrap_or_default().to_owned();
        if self.snapshots.get(&snapshot) != Some(&0) {
            return Err(Said::error(400, &format!("Snapshot {snapshot} not found or not active")));
        }
        if !name.is_empty() && self.found(&name).is_ok() {
            return Err(Said::error(409, &format!("Sandbox with name {name} already exists")));
        }
        let sandbox = Sandbox {
            id: format!("dt-{}", self.sandboxes.len() + 1),
            name,
            state: "started".to_owned(),
            snapshot,
            env: texts(&body["env"]),
            labels: texts(&body["labels"]),
            recoverable: false,
        };
        let said = self.published.answer("POST /sandbox", 200, &Self::described(&sandbox));
        self.sandboxes.push(sandbox);
        Ok(said)
    }

    fn preview(&mut self, asked: &Asked, id: &str, port: &str) -> Result<Said, Said> {
        let operation = format!("GET {SANDBOX}/ports/{{port}}/signed-preview-url");
        self.published.request(&operation, asked)?;
        let port: u16 = port.parse().map_err(|_| Said::error(400, "not a port"))?;
        let sandbox = self.found(id)?;
        if sandbox.state != "started" {
            return Err(Said::error(400, "Sandbox is not started"));
        }
        let id = sandbox.id.clone();
        let url = format!(
            "https://{port}-tok{}.proxy.daytona.example",
            asked.query.get("expiresInSeconds").map_or("60", |s| s)
        );
        let body = json!({"sandboxId": id, "port": port, "token": "tok", "url": url});
        Ok(self.published.answer(&operation, 200, &body))
    }

    fn take_snapshot(&mut self, asked: &Asked, id: &str) -> Result<Said, Said> {
        let operation = format!("POST {SANDBOX}/snapshot");
        let body = self.published.request(&operation, asked)?;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if self.snapshots.contains_key(&name) {
            return Err(Said::error(409, &format!("Snapshot with name {name} already exists")));
        }
        let described = Self::described(self.found(id)?);
        self.snapshots.insert(name, 2);
        Ok(self.published.answer(&operation, 200, &described))
    }

    fn snapshot(&mut self, name: &str) -> Result<Said, Said> {
        let doomed = self.doomed.contains(name);
        let missing = || Said::error(404, "Snapshot not found");
        let left = self.snapshots.get_mut(name).ok_or_else(missing)?;
        let state = match *left {
            0 => "active",
            _ if doomed => "error",
            _ => "snapshotting",
        };
        *left = left.saturating_sub(1);
        let body = json!({
            "id": format!("id of {name}").replace(' ', "-"), "name": name, "general": false, "state": state, "size": null,
            "entrypoint": null, "cpu": 2, "gpu": 0, "mem": 4, "disk": 10, "errorReason": null,
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "lastUsedAt": null,
            "sourceSandboxId": null,
        });
        Ok(self.published.answer("GET /snapshots/{id}", 200, &body))
    }

    fn routed(&mut self, asked: &Asked) -> Result<Said, Said> {
        if asked.header("authorization") != format!("Bearer {}", self.key) {
            return Err(Said::error(401, "Invalid credentials"));
        }
        let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
        let checked = |this: &Self, operation: &str| this.published.request(operation, asked).map(drop);
        match (asked.method.as_str(), parts.as_slice()) {
            ("POST", ["sandbox"]) => self.create(asked),
            ("GET", ["sandbox", id]) => {
                let operation = format!("GET {SANDBOX}");
                checked(self, &operation)?;
                let described = Self::described(self.found(id)?);
                Ok(self.published.answer(&operation, 200, &described))
            }
            ("DELETE", ["sandbox", id]) => {
                let operation = format!("DELETE {SANDBOX}");
                checked(self, &operation)?;
                let states = ["started", "stopped", "archived", "error", "build_failed", "starting", "stopping"];
                self.moved(&operation, id, &states, "destroyed")
            }
            ("POST", ["sandbox", id, step @ ("start" | "stop" | "recover")]) => {
                let operation = format!("POST {SANDBOX}/{step}");
                checked(self, &operation)?;
                match *step {
                    "start" => self.moved(&operation, id, &["stopped", "archived", "paused"], "started"),
                    "stop" => self.moved(&operation, id, &["started", "error"], "stopped"),
                    _ => {
                        if !self.found(id)?.recoverable {
                            return Err(Said::error(400, "Sandbox is not recoverable"));
                        }
                        self.moved(&operation, id, &["error", "build_failed"], "started")
                    }
                }
            }
            ("POST", ["sandbox", id, "snapshot"]) => self.take_snapshot(asked, id),
            ("GET", ["sandbox", id, "ports", port, "signed-preview-url"]) => self.preview(asked, id, port),
            ("GET", ["snapshots", name]) => {
                checked(self, "GET /snapshots/{id}")?;
                self.snapshot(name)
            }
            ("DELETE", ["snapshots", id]) => {
                checked(self, "DELETE /snapshots/{id}")?;
                let name = id.strip_prefix("id-of-").unwrap_or_default();
                self.snapshots.remove(name).ok_or_else(|| Said::error(404, "Snapshot not found"))?;
                Ok(self.published.answer("DELETE /snapshots/{id}", 200, &Value::Null))
            }
            _ => Err(Said::error(404, "Cannot find that path")),
        }
    }
}

impl Vendor for Daytona {
    fn answer(&mut self, asked: &Asked) -> Said {
        self.routed(asked).unwrap_or_else(|refused| match refused.message() {
            Some(message) => self.error(refused.status, &message),
            None => refused,
        })
    }

    fn error(&self, status: u16, message: &str) -> Said {
        Said::json(status, &json!({"statusCode": status, "message": message, "error": "Error", "path": "/"}))
    }
}
