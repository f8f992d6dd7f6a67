//! A stand-in for Vercel's Sandbox API, as Vercel's own client `@vercel/sandbox` calls it and reads it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::edge::{Asked, Said, Vendor};

/// The longest life of a session, in ms.
const MAX_TIMEOUT_MS: u64 = 45 * 60 * 1_000;

/// A command that was run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Whether its end was waited for.
    pub wait: bool,
}

/// A sandbox with its one session.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Unique in the project.
    pub name: String,
    /// The session's id.
    pub session: String,
    /// `running`, `stopped`.
    pub status: String,
    /// Open ports.
    pub ports: Vec<u16>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// The snapshot that it began with.
    pub source: Option<String>,
    /// Its processors, where they were asked for.
    pub vcpus: Option<u32>,
    /// What was run in it.
    pub ran: Vec<Ran>,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// The name of the sandbox that it was made of.
    pub name: String,
    /// The session that it was made of.
    pub session: String,
    /// `created`, `failed`, `deleted`.
    pub status: String,
}

/// The cloud.
pub struct Vercel {
    /// The one token that is good.
    pub token: String,
    /// The one project.
    pub project: String,
    /// The team that must be named, if there is one.
    pub team: Option<String>,
    /// Sandboxes, oldest first.
    pub sandboxes: Vec<Sandbox>,
    /// Snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Status of the next snapshots.
    pub snapshots_become: String,
    /// Exit code of commands that are waited for.
    pub exit_code: i64,
}

/// Fields of the client's own request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct NewSandbox {
    project_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    runtime: Option<String>,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    persistent: Option<bool>,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default)]
    resources: Option<Resources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    r#type: String,
    snapshot_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    vcpus: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct NewCommand {
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    sudo: bool,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    logs: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is named here is what is let through")]
struct NewSnapshot {
    expiration: u64,
}

fn read<T: for<'a> Deserialize<'a>>(asked: &Asked) -> Result<T, Said> {
    serde_json::from_value(asked.json()?).map_err(|error| Said::error(400, &format!("Invalid request: {error}")))
}

impl Vercel {
    /// With one token, one project and one snapshot to begin with.
    pub fn new(token: &str, project: &str, base_snapshot: &str) -> Self {
        Self {
            token: token.to_owned(),
            project: project.to_owned(),
            team: None,
            sandboxes: Vec::new(),
            snapshots: vec![Snapshot {
                id: base_snapshot.to_owned(),
                name: "base".to_owned(),
                session: "sbx_base".to_owned(),
                status: "created".to_owned(),
            }],
            snapshots_become: "created".to_owned(),
            exit_code: 0,
        }
    }

    fn session(sandbox: &Sandbox) -> Value {
        json!({
            "id": sandbox.session, "memory": 4096, "vcpus": sandbox.vcpus.unwrap_or(2), "region": "iad1", "runtime": "node24",
            "timeout": MAX_TIMEOUT_MS, "status": sandbox.status, "requestedAt": 1, "createdAt": 1, "updatedAt": 1,
            "cwd": "/vercel/sandbox",
        })
    }

    fn whole(sandbox: &Sandbox) -> Value {
        let routes: Vec<Value> = sandbox
            .ports
            .iter()
            .map(|port| {
                let subdomain = format!("{}-{port}", sandbox.session.replace('_', "-"));
                json!({"url": format!("https://{subdomain}.vercel.run"), "subdomain": subdomain, "port": port})
            })
            .collect();
        json!({
            "sandbox": {
                "name": sandbox.name, "persistent": false, "createdAt": 1, "updatedAt": 1, "status": sandbox.status,
                "currentSessionId": sandbox.session, "tags": sandbox.tags,
            },
            "session": Self::session(sandbox),
            "routes": routes,
        })
    }

    fn snapshot_body(snapshot: &Snapshot) -> Value {
        json!({
            "id": snapshot.id, "sourceSessionId": snapshot.session, "region": "iad1", "status": snapshot.status,
            "sizeBytes": 1, "createdAt": 1, "updatedAt": 1,
        })
    }

    fn create(&mut self, asked: &Asked) -> Result<Said, Said> {
        let new: NewSandbox = read(asked)?;
        if new.project_id != self.project {
            return Err(Said::error(404, "Project not found"));
        }
        if new.timeout.is_some_and(|ms| ms == 0 || ms > MAX_TIMEOUT_MS) {
            return Err(Said::error(400, "timeout is out of range"));
        }
        let name = new.name.unwrap_or_else(|| format!("sandbox-{}", self.sandboxes.len() + 1));
        if self.sandboxes.iter().any(|sandbox| sandbox.name == name) {
            return Err(Said::error(409, "A sandbox with this name already exists"));
        }
        if let Some(source) = &new.source {
            let there = |known: &&Snapshot| known.id == source.snapshot_id && known.status == "created";
            if source.r#type != "snapshot" || self.snapshots.iter().find(there).is_none() {
                return Err(Said::error(404, "Snapshot not found"));
            }
        }
        let sandbox = Sandbox {
            name,
            session: format!("sbx_{}", self.sandboxes.len() + 1),
            status: "running".to_owned(),
            ports: new.ports,
            env: new.env,
            tags: new.tags,
            source: new.source.map(|source| source.snapshot_id),
            vcpus: new.resources.map(|resources| resources.vcpus),
            ran: Vec::new(),
        };
        let said = Said::json(200, &Self::whole(&sandbox));
        self.sandboxes.push(sandbox);
        Ok(said)
    }

    fn in_session(&mut self, id: &str) -> Result<&mut Sandbox, Said> {
        let found = self.sandboxes.iter_mut().find(|sandbox| sandbox.session == id);
        let sandbox = found.ok_or_else(|| Said::error(404, "Session not found"))?;
        if sandbox.status == "running" { Ok(sandbox) } else { Err(Said::error(410, "Session is stopped")) }
    }

    fn command(&mut self, asked: &Asked, id: &str) -> Result<Said, Said> {
        let new: NewCommand = read(asked)?;
        let exit_code = self.exit_code;
        let sandbox = self.in_session(id)?;
        sandbox.ran.push(Ran { command: new.command.clone(), args: new.args.clone(), wait: new.wait });
        let body = |exit_code: Value| {
            json!({"command": {
                "id": "cmd_1", "name": new.command, "args": new.args, "cwd": "/", "sessionId": id, "startedAt": 1,
                "exitCode": exit_code,
            }})
        };
        if !new.wait {
            return Ok(Said::json(200, &body(Value::Null)));
        }
        let lines = [body(Value::Null), json!({"stream": "stdout", "data": "done\n"}), body(json!(exit_code))];
        let text: String = lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect();
        Ok(Said { status: 200, content_type: "application/x-ndjson", body: text.into_bytes() })
    }

    fn take_snapshot(&mut self, asked: &Asked, id: &str) -> Result<Said, Said> {
        if !asked.body.is_empty() {
            let _: NewSnapshot = read(asked)?;
        }
        let sandbox = self.in_session(id)?;
        // Taking one ends the session.
        "stopped".clone_into(&mut sandbox.status);
        let (name, session) = (sandbox.name.clone(), Self::session(sandbox));
        let snapshot = Snapshot {
            id: format!("snap_{}", self.snapshots.len() + 1),
            name,
            session: id.to_owned(),
            status: self.snapshots_become.clone(),
        };
        let body = json!({"snapshot": Self::snapshot_body(&snapshot), "session": session});
        self.snapshots.push(snapshot);
        Ok(Said::json(200, &body))
    }

    fn list_snapshots(&self, asked: &Asked) -> Result<Said, Said> {
        let known = ["project", "name", "limit", "sortOrder", "teamId", "cursor"];
        if let Some(name) = asked.query.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Said::error(400, &format!("`{name}` is no name of this query")));
        }
        if asked.query.get("project") != Some(&self.project) {
            return Err(Said::error(404, "Project not found"));
        }
        let fits = |snapshot: &&Snapshot| asked.query.get("name").is_none_or(|name| *name == snapshot.name);
        let mut found: Vec<Value> = self.snapshots.iter().filter(fits).map(Self::snapshot_body).collect();
        if asked.query.get("sortOrder").is_some_and(|order| order == "desc") {
            found.reverse();
        }
        found.truncate(asked.query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(10));
        Ok(Said::json(200, &json!({"snapshots": found, "pagination": {"count": found.len(), "next": null}})))
    }

    fn routed(&mut self, asked: &Asked) -> Result<Said, Said> {
        if asked.header("authorization") != format!("Bearer {}", self.token) {
            return Err(Said::error(403, "The request is missing an authentication token or it is not valid"));
        }
        if self.team.is_some() && self.team.as_ref() != asked.query.get("teamId") {
            return Err(Said::error(403, "Not authorized for this team"));
        }
        let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
        let Some(rest) = parts.strip_prefix(&["v2", "sandboxes"]) else {
            return Err(Said::error(404, "Not found"));
        };
        match (asked.method.as_str(), rest) {
            ("POST", []) => self.create(asked),
            ("GET", ["snapshots"]) => self.list_snapshots(asked),
            ("DELETE", ["snapshots", id]) => {
                let fits = |snapshot: &&mut Snapshot| snapshot.id == *id && snapshot.status != "deleted";
                let found = self.snapshots.iter_mut().find(fits);
                let snapshot = found.ok_or_else(|| Said::error(404, "Snapshot not found"))?;
                "deleted".clone_into(&mut snapshot.status);
                Ok(Said::json(200, &json!({"snapshot": Self::snapshot_body(snapshot)})))
            }
            ("GET", ["snapshots", id]) => {
                let found = self.snapshots.iter().find(|snapshot| snapshot.id == *id);
                let snapshot = found.ok_or_else(|| Said::error(404, "Snapshot not found"))?;
                Ok(Said::json(200, &json!({"snapshot": Self::snapshot_body(snapshot)})))
            }
            ("POST", ["sessions", id, "cmd"]) => self.command(asked, id),
            ("POST", ["sessions", id, "snapshot"]) => self.take_snapshot(asked, id),
            ("POST", ["sessions", id, "stop"]) => {
                let sandbox = self.in_session(id)?;
                "stopped".clone_into(&mut sandbox.status);
                Ok(Said::json(200, &json!({"session": Self::session(sandbox)})))
            }
            ("GET", [name]) => {
                if asked.query.get("projectId") != Some(&self.project) {
                    return Err(Said::error(404, "Project not found"));
                }
                let found = self.sandboxes.iter().find(|sandbox| sandbox.name == *name);
                let sandbox = found.ok_or_else(|| Said::error(404, "Sandbox not found"))?;
                Ok(Said::json(200, &Self::whole(sandbox)))
            }
            _ => Err(Said::error(404, "Not found")),
        }
    }
}

impl Vendor for Vercel {
    fn answer(&mut self, asked: &Asked) -> Said {
        self.routed(asked).unwrap_or_else(|refused| match refused.message() {
            Some(message) => self.error(refused.status, &message),
            None => refused,
        })
    }

    fn error(&self, status: u16, message: &str) -> Said {
        Said::json(status, &json!({"error": {"code": "error", "message": message}}))
    }
}
