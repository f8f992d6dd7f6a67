//! Ports of a sandbox: no two services on one, and none where the sandbox itself listens.

use oi_protocol::local_backend::{CODE_SERVER_PORT, DESKTOP_PORT};
use oi_worker_kit::Refusal;
use serde_json::{Map, Value, json};

use super::invalid;

/// Services with the ports that they have when none is set, the first having precedence.
const SERVICES: [(&str, i64); 3] =
    [("codeServerPort", CODE_SERVER_PORT as i64), ("vncPort", DESKTOP_PORT as i64), ("terminalPort", 7680)];
/// Where the desktop and the terminal listen inside.
const RESERVED: [i64; 2] = [5900, 7681];

fn tunnels(settings: &Map<String, Value>) -> Vec<i64> {
    let listed = settings.get("tunnelPorts").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_i64).collect()
}

/// For what is written: no port is reserved, and all differ, those that services have when none is set too.
pub fn check(settings: &Map<String, Value>) -> Result<(), Refusal> {
    let services = SERVICES.map(|(name, default)| settings.get(name).and_then(Value::as_i64).unwrap_or(default));
    let mut all: Vec<i64> = services.into_iter().chain(tunnels(settings)).collect();
    if let Some(port) = all.iter().find(|port| RESERVED.contains(port)) {
        return Err(invalid(format!("Port {port} is reserved")));
    }
    all.sort_unstable();
    match all.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(invalid(format!("Ports must differ: {} is there twice", two[0]))),
        None => Ok(()),
    }
}

/// For layers that were laid on each other: what clashes is dropped, services before tunnels.
pub fn settle(settings: &mut Map<String, Value>) {
    let mut taken: Vec<i64> = RESERVED.to_vec();
    for (name, default) in SERVICES {
        let wanted = settings.get(name).and_then(Value::as_i64);
        match wanted {
            Some(port) if !taken.contains(&port) => taken.push(port),
            _ => {
                settings.remove(name);
                taken.push(default);
            }
        }
    }
    let free: Vec<i64> = tunnels(settings).into_iter().filter(|port| !taken.contains(port)).collect();
    if settings.contains_key("tunnelPorts") {
        settings.insert("tunnelPorts".to_owned(), json!(free));
    }
}
