//! A stand-in for OpenComputer's API, as its documentation and its own client `@opencomputer/sdk` have it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::edge::{Asked, Said, Vendor};

/// A sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The vendor's id.
    pub id: String,
    /// `running` or `hibernated`.
    pub status: String,
    /// The checkpoint or the snapshot that it began with.
    pub source: String,
    /// Its environment.
    pub envs: BTreeMap<String, String>,
    /// Seconds until it hibernates by itself.
    pub timeout: i64,
    /// Scripts that were run.
    pub scripts: Vec<String>,
}

/// A checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its id.
    pub id: String,
    /// The sandbox that it was made of.
    pub sandbox: String,
    /// Unique for its sandbox.
    pub name: String,
}

/// The cloud.
pub struct OpenComputer {
    /// The one key that is good.
    pub key: String,
    /// The one snapshot to begin with.
    pub snapshot: String,
    /// Sandboxes that live, oldest first.
    pub sandboxes: Vec<Sandbox>,
    /// Checkpoints, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// Exit code of scripts.
    pub exit_code: i64,
    /// What sandboxes' host names end with, when it is told.
    pub domain: Option<String>,
    /// Status of new checkpoints.
    pub checkpoints_become: String,
    made: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct NewSandbox {
    #[serde(rename = "templateID", default)]
    template_id: Option<String>,
    #[serde(default)]
    snapshot: Option<String>,
    #[serde(default)]
    envs: BTreeMap<String, String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    secret_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Life {
    timeout: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct Run {
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    envs: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    timeout: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewCheckpoint {
    name: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    retention_policy: Option<Retention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Retention {
    mode: String,
    #[serde(default)]
    max_count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct NewPreview {
    port: u16,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    auth_config: Option<Value>,
}

fn read<T: for<'a> Deserialize<'a>>(asked: &Asked) -> Result<T, Said> {
    serde_json::from_value(asked.json()?).map_err(|error| Said::error(400, &format!("invalid request body: {error}")))
}

impl OpenComputer {
    /// With one key and one snapshot to begin with.
    pub fn new(key: &str, snapshot: &str) -> Self {
        Self {
            key: key.to_owned(),
            snapshot: snapshot.to_owned(),
            sandboxes: Vec::new(),
            checkpoints: Vec::new(),
            exit_code: 0,
            domain: Some("workers.opencomputer.example".to_owned()),
            checkpoints_become: "processing".to_owned(),
            made: 0,
        }
    }

    fn described(&self, sandbox: &Sandbox) -> Value {
        let mut body = json!({
            "sandboxID": sandbox.id, "status": sandbox.status, "region": "use2", "workerID": "w-use2-1",
        });
        if let Some(domain) = &self.domain {
            body["sandboxDomain"] = json!(domain);
        }
        body
    }

    fn index(&self, id: &str) -> Result<usize, Said> {
        let found = self.sandboxes.iter().position(|sandbox| sandbox.id == id);
        found.ok_or_else(|| Said::error(404, "sandbox not found"))
    }

    fn running(&mut self, id: &str) -> Result<&mut Sandbox, Said> {
        let index = self.index(id)?;
        let sandbox = &mut self.sandboxes[index];
        if sandbox.status == "running" { Ok(sandbox) } else { Err(Said::error(400, "sandbox is not running")) }
    }

    fn create(&mut self, asked: &Asked, checkpoint: Option<&str>) -> Result<Said, Said> {
        let new: NewSandbox = read(asked)?;
        let source = match checkpoint {
            Some(id) => {
                if new.template_id.is_some() || new.snapshot.is_some() {
                    return Err(Said::error(400, "a checkpoint is the template"));
                }
                let found = self.checkpoints.iter().find(|checkpoint| checkpoint.id == id);
                found.ok_or_else(|| Said::error(404, "checkpoint not found"))?.id.clone()
            }
            None => match new.snapshot {
                Some(name) if name == self.snapshot => name,
                Some(name) => return Err(Said::error(404, &format!("snapshot {name} not found"))),
                None => new.template_id.unwrap_or_else(|| "base".to_owned()),
            },
        };
        self.made += 1;
        let sandbox = Sandbox {
            id: format!("sb-{:06}", self.made),
            status: "running".to_owned(),
            source,
            envs: new.envs,
            timeout: new.timeout,
            scripts: Vec::new(),
        };
        let said = Said::json(201, &self.described(&sandbox));
        self.sandboxes.push(sandbox);
        Ok(said)
    }

    fn take_checkpoint(&mut self, asked: &Asked, id: &str) -> Result<Said, Said> {
        let new: NewCheckpoint = read(asked)?;
        if new.kind.as_deref().is_some_and(|kind| !matches!(kind, "full" | "disk_only")) {
            return Err(Said::error(400, "kind must be full or disk_only"));
        }
        if let Some(retention) = &new.retention_policy
            && (retention.mode != "delete_oldest" || retention.max_count.is_some_and(|most| !(1..=100).contains(&most)))
        {
            return Err(Said::error(400, "unsupported checkpoint retention policy"));
        }
        self.running(id)?;
        if self.checkpoints.iter().any(|known| known.sandbox == id && known.name == new.name) {
            return Err(Said::error(409, "checkpoint name already exists for this sandbox"));
        }
        self.made += 1;
        let checkpoint = Checkpoint { id: format!("cp-{:06}", self.made), sandbox: id.to_owned(), name: new.name };
        let said = Said::json(201, &self.checkpoint_body(&checkpoint));
        self.checkpoints.push(checkpoint);
        Ok(said)
    }

    fn checkpoint_body(&self, checkpoint: &Checkpoint) -> Value {
        json!({
            "id": checkpoint.id, "sandboxID": checkpoint.sandbox, "name": checkpoint.name,
            "status": self.checkpoints_become, "sizeBytes": 0, "createdAt": "2026-01-01T00:00:00Z",
        })
    }

    fn routed(&mut self, asked: &Asked) -> Result<Said, Said> {
        if asked.header("x-api-key") != self.key {
            return Err(Said::error(401, "missing or invalid API key"));
        }
        if asked.query.keys().any(|name| name != "deleteSecretStore") {
            return Err(Said::error(400, "unknown name in the query"));
        }
        let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
        let Some(rest) = parts.strip_prefix(&["api", "sandboxes"]) else {
            return Err(Said::error(404, "Not Found"));
        };
        match (asked.method.as_str(), rest) {
            ("POST", []) => self.create(asked, None),
            ("POST", ["from-checkpoint", id]) => self.create(asked, Some(id)),
            ("GET", [id]) => Ok(Said::json(200, &self.described(&self.sandboxes[self.index(id)?]))),
            ("DELETE", [id]) => {
                let index = self.index(id)?;
                self.sandboxes.remove(index);
                Ok(Said::empty(204))
            }
            ("POST", [id, "hibernate"]) => {
                let index = self.index(id)?;
                "hibernated".clone_into(&mut self.sandboxes[index].status);
                Ok(Said::json(200, &json!({"sandboxID": id, "status": "hibernated", "sizeBytes": 1})))
            }
            ("POST", [id, "wake"]) => {
                let life: Life = read(asked)?;
                let index = self.index(id)?;
                let sandbox = &mut self.sandboxes[index];
                "running".clone_into(&mut sandbox.status);
                sandbox.timeout = life.timeout;
                Ok(Said::json(200, &self.described(&self.sandboxes[index])))
            }
            ("POST", [id, "timeout"]) => {
                let life: Life = read(asked)?;
                if life.timeout <= 0 {
                    return Err(Said::error(400, "timeout must be > 0"));
                }
                self.running(id)?.timeout = life.timeout;
                Ok(Said::empty(204))
            }
            ("POST", [id, "exec", "run"]) => {
                let run: Run = read(asked)?;
                let exit_code = self.exit_code;
                self.running(id)?.scripts.push(run.args.last().cloned().unwrap_or(run.cmd));
                let stderr = if exit_code == 0 { "" } else { "sh: it failed" };
                Ok(Said::json(200, &json!({"exitCode": exit_code, "stdout": "", "stderr": stderr})))
            }
            ("POST", [id, "preview"]) => {
                let new: NewPreview = read(asked)?;
                self.running(id)?;
                let hostname = format!("{id}-p{}.preview.opencomputer.example", new.port);
                let body = json!({
                    "id": "pv-1", "sandboxId": id, "hostname": hostname, "port": new.port, "sslStatus": "active",
                });
                Ok(Said::json(201, &body))
            }
            ("POST", [id, "checkpoints"]) => self.take_checkpoint(asked, id),
            ("GET", [id, "checkpoints"]) => {
                self.index(id)?;
                let of = self.checkpoints.iter().filter(|known| known.sandbox == *id);
                Ok(Said::json(200, &of.map(|known| self.checkpoint_body(known)).collect()))
            }
            ("DELETE", [id, "checkpoints", checkpoint]) => {
                let fits = |known: &Checkpoint| known.sandbox == *id && known.id == *checkpoint;
                let index = self.checkpoints.iter().position(fits);
                self.checkpoints.remove(index.ok_or_else(|| Said::error(404, "checkpoint not found"))?);
                Ok(Said::empty(204))
            }
            _ => Err(Said::error(404, "Not Found")),
        }
    }
}

impl Vendor for OpenComputer {
    fn answer(&mut self, asked: &Asked) -> Said {
        self.routed(asked).unwrap_or_else(|refused| match refused.message() {
            Some(message) => self.error(refused.status, &message),
            None => refused,
        })
    }

    fn error(&self, status: u16, message: &str) -> Said {
        Said::json(status, &json!({ "error": message }))
    }
}
