//! The program itself: how it starts, what it says when it can't, how it stops.
#![allow(clippy::unwrap_used, reason = "a test that can't go on stops")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

fn devkit(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_devkit"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads the log until a line holds this; answers that line.
fn wait_for(child: &mut Child, text: &str) -> String {
    BufReader::new(child.stderr.as_mut().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.contains(text))
        .expect("the log ends without the line")
}

#[test]
fn a_taken_port_is_said_and_a_signal_ends_it_well() {
    let mut first = devkit(&["model", "--listen", "127.0.0.1:0"]);
    let ready = wait_for(&mut first, "ready");
    let address = ready.split("address=").nth(1).unwrap().trim().to_owned();
    let second = devkit(&["model", "--listen", &address]).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&format!("could not listen on `{address}`")), "{said}");
    Command::new("kill").arg(first.id().to_string()).status().unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn a_configuration_that_can_not_be_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("forge.json");
    let run = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let state = folder.path().join("state");
        let arguments = ["forge", "--listen", "127.0.0.1:0", "--state-dir", state.to_str().unwrap(), "--config"];
        let output = devkit(&[&arguments[..], &[config.to_str().unwrap()]].concat()).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run("{").contains("can't be used"));
    assert!(run("{}").contains("missing field `publicUrl`"));
    let config = |public_url: &str, key: &str, more: &str| {
        format!(
            r#"{{"publicUrl":"{public_url}","oauth":{{"clientId":"c","clientSecret":"hush-hush","redirectOrigins":[]}},
            "app":{{"id":1,"publicKeyPem":"{key}","installationId":2}},"adminSecret":"a"{more}}}"#
        )
    };
    assert!(run(&config("http://127.0.0.1:1/path?query", "", "")).contains("must be an origin"));
    let said = run(&config("http://127.0.0.1:1", "nonsense", ""));
    assert!(said.contains("no RSA public key") && !said.contains("hush-hush"), "{said}");
    let stranger = r#","repositories":[{"owner":"nobody","name":"x","id":1}]"#;
    assert!(run(&config("http://127.0.0.1:1", "", stranger)).contains("`nobody` is no account"));
    let climbing = r#","repositories":[{"owner":"acme","name":"..","id":1}]"#;
    assert!(run(&config("http://127.0.0.1:1", "", climbing)).contains("not a valid repository name"));
}
