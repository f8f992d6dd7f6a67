//! A stand-in for E2B's API, and for the service within each sandbox that starts processes. Both are at one address: the
//! second is told apart by its path, and its sandbox by headers, as E2B's own client does it with a `sandboxUrl`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::edge::{Asked, Said, Vendor, decoded};
use super::published::Published;

const SANDBOX: &str = "/sandboxes/{sandboxID}";
const ENVD_PORT: &str = "49983";

/// A sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The vendor's id.
    pub id: String,
    /// `running` or `paused`.
    pub state: String,
    /// What it was started from.
    pub template: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// What finds it.
    pub metadata: BTreeMap<String, String>,
    /// Seconds to live, as they were set last.
    pub timeout: i64,
    /// Token of the service within.
    pub envd_token: String,
    /// Scripts that were run.
    pub scripts: Vec<String>,
    /// Whether it was paused without its memory since a process was started in it.
    pub is_clean: bool,
}

/// How the service within answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The script ran and ended well.
    Good,
    /// It ended with another exit code.
    Fails,
    /// The stream is cut off after it began.
    CutOff,
    /// The stream ends with an error.
    StreamError,
}

/// The cloud.
pub struct E2b {
    /// The one key that is good.
    pub key: String,
    /// The one template.
    pub template: String,
    /// Sandboxes that live, oldest first.
    pub sandboxes: Vec<Sandbox>,
    /// Templates that snapshots made, by id, and whether the snapshot's machine was free of an earlier start's processes.
    pub snapshots: BTreeMap<String, bool>,
    /// How scripts end.
    pub process: Process,
    /// Whether sandboxes get a token.
    pub gives_tokens: bool,
    made: usize,
    published: Published,
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn envelope(flags: u8, message: &Value) -> Vec<u8> {
    let message = message.to_string();
    let mut bytes = vec![flags];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message.as_bytes());
    bytes
}

impl E2b {
    /// With one key and one template.
    pub fn new(key: &str, template: &str) -> Self {
        Self {
            key: key.to_owned(),
            template: template.to_owned(),
            sandboxes: Vec::new(),
            snapshots: BTreeMap::new(),
            process: Process::Good,
            gives_tokens: true,
            made: 0,
            published: Published::e2b(),
        }
    }

    fn session(&self, sandbox: &Sandbox) -> Value {
        let mut body = json!({
            "sandboxID": sandbox.id, "templateID": sandbox.template, "clientID": "client", "envdVersion": "0.4.0",
            "domain": "e2b.example",
        });
        if self.gives_tokens {
            body["envdAccessToken"] = json!(sandbox.envd_token);
        }
        body
    }

    fn listed(sandbox: &Sandbox) -> Value {
        json!({
            "sandboxID": sandbox.id, "templateID": sandbox.template, "clientID": "client", "envdVersion": "0.4.0",
            "state": sandbox.state, "metadata": sandbox.metadata, "cpuCount": 2, "memoryMB": 4096, "diskSizeMB": 10_240,
            "startedAt": "2026-01-01T00:00:00Z", "endAt": "2026-01-01T02:00:00Z",
        })
    }

    fn detail(&self, sandbox: &Sandbox) -> Value {
        let mut body = Self::listed(sandbox);
        body["domain"] = json!("e2b.example");
        if self.gives_tokens {
            body["envdAccessToken"] = json!(sandbox.envd_token);
        }
        body
    }

    fn index(&self, id: &str) -> Result<usize, Said> {
        let missing = || Said::error(404, &format!("sandbox \"{id}\" not found"));
        self.sandboxes.iter().position(|sandbox| sandbox.id == id).ok_or_else(missing)
    }

    fn create(&mut self, asked: &Asked) -> Result<Said, Said> {
        let body = self.published.request("POST /sandboxes", asked)?;
        let template = body["templateID"].as_str().unwrap_or_default();
        if template != self.template && !self.snapshots.contains_key(template) {
            return Err(Said::error(404, &format!("template '{template}' not found")));
        }
        self.made += 1;
        let id = format!("e2b{:04}", self.made);
        let sandbox = Sandbox {
            envd_token: format!("envd-token-of-{id}"),
            id,
            state: "running".to_owned(),
            template: template.to_owned(),
            env: texts(&body["envVars"]),
            metadata: texts(&body["metadata"]),
            timeout: body["timeout"].as_i64().unwrap_or(15),
            scripts: Vec::new(),
            is_clean: false,
        };
        let said = self.published.answer("POST /sandboxes", 201, &self.session(&sandbox));
        self.sandboxes.push(sandbox);
        Ok(said)
    }

    fn list(&mut self, asked: &Asked) -> Result<Said, Said> {
        self.published.request("GET /v2/sandboxes", asked)?;
        let bad = || Said::error(400, "Error when parsing metadata");
        let mut filter = BTreeMap::new();
        if let Some(text) = asked.query.get("metadata") {
            // Decoded as a whole, and then by its parts.
            for pair in decoded(text).ok_or_else(bad)?.split('&') {
                let (name, value) = pair.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or_else(bad)?;
                filter.insert(decoded(name).ok_or_else(bad)?, decoded(value).ok_or_else(bad)?);
            }
        }
        let states = asked.query.get("state").map(|text| text.split(',').collect::<Vec<_>>());
        let limit = asked.query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(100);
        let fits = |sandbox: &&Sandbox| {
            filter.iter().all(|(name, value)| sandbox.metadata.get(name) == Some(value))
                && states.as_ref().is_none_or(|states| states.contains(&sandbox.state.as_str()))
        };
        let found: Vec<Value> = self.sandboxes.iter().rev().filter(fits).take(limit).map(Self::listed).collect();
        Ok(self.published.answer("GET /v2/sandboxes", 200, &json!(found)))
    }

    fn step(&mut self, asked: &Asked, id: &str, step: &str) -> Result<Said, Said> {
        let operation = format!("POST {SANDBOX}/{step}");
        let body = self.published.request(&operation, asked)?;
        let index = self.index(id)?;
        let sandbox = &mut self.sandboxes[index];
        let seconds = body["timeout"].as_i64();
        let was_running = sandbox.state == "running";
        match step {
            "pause" if !was_running => return Err(Said::error(409, "sandbox is already paused")),
            "pause" => {
                "paused".clone_into(&mut sandbox.state);
                sandbox.is_clean |= body["memory"] == json!(false);
            }
            "connect" => {
                "running".clone_into(&mut sandbox.state);
                sandbox.timeout = seconds.unwrap_or(sandbox.timeout);
                let status = if was_running { 200 } else { 201 };
                let sandbox = sandbox.clone();
                return Ok(self.published.answer(&operation, status, &self.session(&sandbox)));
            }
            _ if !was_running => return Err(Said::error(404, "sandbox is not running")),
            _ => sandbox.timeout = seconds.unwrap_or(sandbox.timeout),
        }
        Ok(self.published.answer(&operation, 204, &Value::Null))
    }

    /// `process.Process/Start`, in envelopes of JSON.
    fn process(&mut self, asked: &Asked) -> Result<Said, Said> {
        let refused = |why: &str| Said::error(400, why);
        let id = asked.header("e2b-sandbox-id").to_owned();
        if asked.header("e2b-sandbox-port") != ENVD_PORT {
            return Err(refused("not the port of the service"));
        }
        let index = self.index(&id)?;
        let sandbox = &mut self.sandboxes[index];
        if sandbox.state != "running" {
            return Err(Said::error(502, "the sandbox is not running"));
        }
        if asked.header("x-access-token") != sandbox.envd_token {
            return Err(Said::error(401, "unauthenticated"));
        }
        // The key of the account has no business in a sandbox.
        if asked.headers.contains_key("x-api-key") {
            return Err(refused("the account's key was sent into a sandbox"));
        }
        if asked.header("content-type") != "application/connect+json" || asked.header("connect-protocol-version") != "1"
        {
            return Err(Said::error(415, "not the Connect protocol"));
        }
        let (header, message) = asked.body.split_at_checked(5).ok_or_else(|| refused("no envelope"))?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if header[0] != 0 || length != message.len() {
            return Err(refused("a bad envelope"));
        }
        let request: Value = serde_json::from_slice(message).map_err(|_| refused("no JSON"))?;
        let process = request["process"].as_object().ok_or_else(|| refused("no process"))?;
        let known = |fields: &serde_json::Map<String, Value>, names: &[&str]| {
            fields.keys().all(|name| names.contains(&name.as_str()))
        };
        // As `process.proto` has them.
        let is_known = request.as_object().is_some_and(|fields| known(fields, &["process", "pty", "tag", "stdin"]))
            && known(process, &["cmd", "args", "envs", "cwd"]);
        let args: Vec<String> = serde_json::from_value(request["process"]["args"].clone()).unwrap_or_default();
        if !is_known || request["process"]["cmd"] != "/bin/sh" || args.len() != 2 || args[0] != "-c" {
            return Err(refused("not a script"));
        }
        sandbox.scripts.push(args[1].clone());
        let mut body = envelope(0, &json!({"event": {"start": {"pid": 42}}}));
        match self.process {
            Process::Good => {
                body.extend(envelope(0, &json!({"event": {"end": {"exited": true, "status": "exit status 0"}}})));
                body.extend(envelope(2, &json!({})));
            }
            Process::Fails => {
                let end = json!({"exitCode": 127, "exited": true, "status": "exit status 127"});
                body.extend(envelope(0, &json!({"event": {"end": end}})));
                body.extend(envelope(2, &json!({})));
            }
            Process::CutOff => {}
            Process::StreamError => {
                body.extend(envelope(2, &json!({"error": {"code": "internal", "message": "the disk is full"}})));
            }
        }
        Ok(Said { status: 200, content_type: "application/connect+json", body })
    }

    fn routed(&mut self, asked: &Asked) -> Result<Said, Said> {
        let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
        if (asked.method.as_str(), parts.as_slice()) == ("POST", &["process.Process", "Start"]) {
            return self.process(asked);
        }
        if asked.header("x-api-key") != self.key {
            return Err(Said::error(401, "Invalid API key"));
        }
        match (asked.method.as_str(), parts.as_slice()) {
            // The newest client creates and connects below `/v2`, with the same fields.
            ("POST", ["sandboxes"] | ["v2", "sandboxes"]) => self.create(asked),
            ("POST", ["v2", "sandboxes", id, "connect"]) => self.step(asked, id, "connect"),
            ("GET", ["v2", "sandboxes"]) => self.list(asked),
            ("GET", ["sandboxes", id]) => {
                let operation = format!("GET {SANDBOX}");
                self.published.request(&operation, asked)?;
                let detail = self.detail(&self.sandboxes[self.index(id)?]);
                Ok(self.published.answer(&operation, 200, &detail))
            }
            ("DELETE", ["sandboxes", id]) => {
                let operation = format!("DELETE {SANDBOX}");
                self.published.request(&operation, asked)?;
                let index = self.index(id)?;
                self.sandboxes.remove(index);
                Ok(self.published.answer(&operation, 204, &Value::Null))
            }
            ("POST", ["sandboxes", id, "snapshots"]) => {
                let operation = format!("POST {SANDBOX}/snapshots");
                self.published.request(&operation, asked)?;
                let sandbox = &self.sandboxes[self.index(id)?];
                if sandbox.state != "running" {
                    return Err(Said::error(404, "sandbox is not running"));
                }
                let (snapshot, is_clean) = (format!("snap{}:default", self.snapshots.len() + 1), sandbox.is_clean);
                self.snapshots.insert(snapshot.clone(), is_clean);
                Ok(self.published.answer(&operation, 201, &json!({"snapshotID": snapshot, "names": []})))
            }
            ("DELETE", ["templates", id]) => {
                let operation = "DELETE /templates/{templateID}";
                self.published.request(operation, asked)?;
                if self.snapshots.remove(*id).is_none() {
                    return Err(Said::error(404, &format!("template '{id}' not found")));
                }
                Ok(self.published.answer(operation, 204, &Value::Null))
            }
            ("POST", ["sandboxes", id, step @ ("pause" | "connect" | "timeout")]) => self.step(asked, id, step),
            _ => Err(Said::error(404, "no matching operation was found")),
        }
    }
}

impl Vendor for E2b {
    fn answer(&mut self, asked: &Asked) -> Said {
        self.routed(asked).unwrap_or_else(|refused| match refused.message() {
            Some(message) => self.error(refused.status, &message),
            None => refused,
        })
    }

    fn error(&self, status: u16, message: &str) -> Said {
        Said::json(status, &json!({"code": status, "message": message}))
    }
}
