//! A stand-in for our app at Modal (`sandbox-bridge/images/modal`): its endpoints, below one address. The tests of the
//! app itself hold it against the same table of fields, `endpoints.json`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use super::edge::{Asked, Said, Vendor};

/// How far a signature's time may be from ours, in ms.
const TOLERANCE_MS: u128 = 5 * 60 * 1_000;

/// Fields of each endpoint's body: `true` when they must be there.
#[derive(Deserialize)]
struct Endpoints(BTreeMap<String, BTreeMap<String, bool>>);

/// A sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Our name of it.
    pub id: String,
    /// Modal's.
    pub object_id: String,
    /// Whether it lives.
    pub running: bool,
    /// What it was started with.
    pub body: Value,
}

/// The machine of a build.
#[derive(Debug, Clone)]
pub struct Build {
    /// Modal's name of it.
    pub object_id: String,
    /// Whether it lives.
    pub running: bool,
    /// What it was made with.
    pub body: Value,
    /// The token that it was started with.
    pub token: Option<String>,
}

/// The app.
pub struct Modal {
    /// The key of signatures.
    pub secret: String,
    /// Sandboxes, oldest first.
    pub sandboxes: Vec<Sandbox>,
    /// Machines of builds, oldest first.
    pub builds: Vec<Build>,
    /// Images.
    pub images: Vec<String>,
    /// What the next call answers with status 200 instead of doing it.
    pub complaint: Option<String>,
    endpoints: Endpoints,
}

impl Modal {
    /// With its key.
    #[expect(clippy::expect_used, reason = "the file is part of this crate, and a test reads it")]
    pub fn new(secret: &str) -> Self {
        let endpoints = include_str!("../../../sandbox-bridge/images/modal/endpoints.json");
        Self {
            secret: secret.to_owned(),
            sandboxes: Vec::new(),
            builds: Vec::new(),
            images: Vec::new(),
            complaint: None,
            endpoints: serde_json::from_str(endpoints).expect("a table of fields"),
        }
    }

    fn is_signed(&self, asked: &Asked) -> bool {
        let Some(token) = asked.header("authorization").strip_prefix("Bearer ") else { return false };
        let Some((at, signature)) = token.split_once('.') else { return false };
        let (Ok(at_ms), Ok(signature)) = (at.parse::<u128>(), hex::decode(signature)) else { return false };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return false };
        mac.update(at.as_bytes());
        now.abs_diff(at_ms) <= TOLERANCE_MS && mac.verify_slice(&signature).is_ok()
    }

    fn checked(&self, endpoint: &str, asked: &Asked) -> Result<Value, Said> {
        let fields = self.endpoints.0.get(endpoint).ok_or_else(|| Said::error(404, "invalid function call"))?;
        let body = asked.json()?;
        let given = body.as_object().ok_or_else(|| Said::error(400, "the body is no object"))?;
        if let Some(name) = given.keys().find(|name| !fields.contains_key(*name)) {
            return Err(Said::error(400, &format!("`{name}` is no field of {endpoint}")));
        }
        let missing = |(name, needed): &(&String, &bool)| **needed && given.get(*name).is_none_or(Value::is_null);
        if let Some((name, _)) = fields.iter().find(missing) {
            return Err(Said::error(400, &format!("`{name}` is missing")));
        }
        Ok(body)
    }

    fn described(sandbox: &Sandbox) -> Value {
        let on = |field: &str| sandbox.body[field] == json!(true);
        let at = |port: u64| format!("https://{}-{port}.modal.example", sandbox.object_id);
        let mut data = json!({
            "sandbox_id": sandbox.id, "modal_object_id": sandbox.object_id, "status": "warming", "ttyd_url": null,
            "running": sandbox.running,
        });
        if on("code_server_enabled") {
            data["code_server_url"] = json!(at(8080));
            data["code_server_password"] = json!("a password of code-server");
        }
        if on("vnc_enabled") {
            data["vnc_url"] = json!(at(6080));
            data["vnc_password"] = json!("deskpass");
        }
        let ports = sandbox.body["sandbox_settings"]["tunnelPorts"].as_array().cloned().unwrap_or_default();
        let urls: BTreeMap<String, String> =
            ports.iter().filter_map(Value::as_u64).map(|port| (port.to_string(), at(port))).collect();
        data["tunnel_urls"] = json!(urls);
        data
    }

    fn start(&mut self, body: Value) -> Value {
        let id = body["sandbox_id"].as_str().unwrap_or_default().to_owned();
        // Names are unique among those that live.
        if let Some(known) = self.sandboxes.iter().find(|sandbox| sandbox.id == id && sandbox.running) {
            return Self::described(known);
        }
        let object_id = format!("sb-modal{}", self.sandboxes.len() + 1);
        let sandbox = Sandbox { id, object_id, running: true, body };
        let described = Self::described(&sandbox);
        self.sandboxes.push(sandbox);
        described
    }

    fn no_image(image: &str) -> Said {
        Said::json(200, &json!({"success": false, "error": format!("Image {image} was not found")}))
    }

    /// The live machine of a build: one of another build is not there.
    fn build(&mut self, body: &Value) -> Result<&mut Build, Said> {
        let fits = |build: &&mut Build| {
            body["provider_session_id"] == build.object_id
                && body["build_id"] == build.body["build_id"]
                && build.running
        };
        self.builds.iter_mut().find(fits).ok_or_else(|| Said::error(404, "Sandbox not found"))
    }

    fn routed(&mut self, asked: &Asked) -> Result<Value, Said> {
        let [endpoint] = asked.parts.as_slice() else { return Err(Said::error(404, "invalid function call")) };
        if asked.method != "POST" || !asked.query.is_empty() {
            return Err(Said::error(405, "only POST, without a query"));
        }
        if !self.is_signed(asked) {
            return Err(Said::error(401, "Unauthorized"));
        }
        let body = self.checked(endpoint, asked)?;
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        if let Some(complaint) = self.complaint.take() {
            return Err(Said::json(200, &json!({"success": false, "error": complaint})));
        }
        match endpoint.as_str() {
            "api-create-sandbox" => match body["repo_image_id"].as_str() {
                Some(image) if !self.images.iter().any(|known| known == image) => Err(Self::no_image(image)),
                _ => Ok(self.start(body)),
            },
            "api-restore-sandbox" => {
                let image = text("snapshot_image_id");
                if !self.images.contains(&image) {
                    return Err(Self::no_image(&image));
                }
                Ok(self.start(body))
            }
            "api-snapshot-sandbox" => {
                let object_id = text("sandbox_id");
                let alive = self.sandboxes.iter().any(|sandbox| sandbox.object_id == object_id && sandbox.running);
                if !alive {
                    return Err(Said::error(404, "Sandbox not found"));
                }
                let image = format!("im-{}", self.images.len() + 1);
                self.images.push(image.clone());
                Ok(json!({
                    "image_id": image, "sandbox_id": object_id, "session_id": text("session_id"), "reason": text("reason"),
                }))
            }
            "api-delete-provider-image" => {
                let image = text("provider_image_id");
                self.images.retain(|known| *known != image);
                Ok(json!({"provider_image_id": image, "deleted": true}))
            }
            "api-create-build-sandbox" => {
                let object_id = format!("sb-build{}", self.builds.len() + 1);
                self.builds.push(Build { object_id: object_id.clone(), running: true, body, token: None });
                Ok(json!({ "provider_session_id": object_id }))
            }
            "api-start-build-sandbox" => {
                let token = text("callback_token");
                if token.len() != 64 || !token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(Said::error(400, "`callback_token` is not 64 hex digits"));
                }
                self.build(&body)?.token = Some(token);
                Ok(json!({"started": true}))
            }
            "api-snapshot-build-sandbox" => {
                self.build(&body)?;
                let image = format!("im-{}", self.images.len() + 1);
                self.images.push(image.clone());
                let (build, machine) = (text("build_id"), text("provider_session_id"));
                Ok(json!({"image_id": image, "build_id": build, "provider_session_id": machine}))
            }
            "api-terminate-build-sandbox" => {
                if let Ok(build) = self.build(&body) {
                    build.running = false;
                }
                Ok(json!({"terminated": true}))
            }
            "api-find-sandbox" => {
                let id = text("sandbox_id");
                let found = self.sandboxes.iter().rev().find(|sandbox| sandbox.id == id);
                Ok(found.map_or(Value::Null, Self::described))
            }
            "api-stop-sandbox" => {
                let (id, object_id) = (text("sandbox_id"), text("provider_object_id"));
                let fits = |sandbox: &&mut Sandbox| sandbox.id == id || sandbox.object_id == object_id;
                for sandbox in self.sandboxes.iter_mut().filter(fits) {
                    sandbox.running = false;
                }
                let named = |build: &&mut Build| {
                    id.strip_prefix("build-").is_some_and(|build_id| build.body["build_id"] == build_id)
                };
                for build in self.builds.iter_mut().filter(named) {
                    build.running = false;
                }
                Ok(json!({"terminated": true}))
            }
            _ => Err(Said::error(404, "invalid function call")),
        }
    }
}

impl Vendor for Modal {
    fn answer(&mut self, asked: &Asked) -> Said {
        match self.routed(asked) {
            Ok(data) => Said::json(200, &json!({"success": true, "data": data})),
            Err(refused) => match refused.message() {
                Some(message) => self.error(refused.status, &message),
                None => refused,
            },
        }
    }

    fn error(&self, status: u16, message: &str) -> Said {
        // As FastAPI writes them.
        Said::json(status, &json!({ "detail": message }))
    }
}
