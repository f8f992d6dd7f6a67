//! Services of the real supervisor, with the programs themselves played by the test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use oi_protocol::local_backend::{CreateSandboxRequest, SandboxServices};
use sandbox_bridge::host::processes::ProcessId;

use crate::support::eventually;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config, says_it_listens, stand_in};
use crate::support::session::Session;

const WITHIN: Duration = Duration::from_secs(20);

fn tool(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
}

#[tokio::test]
async fn code_server_runs_and_answers_and_ends_with_its_supervisor() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let tools = tempfile::tempdir().expect("a folder");
    // Its last two arguments are the address and the folder of the work.
    let serve = "for last; do address=$folder; folder=$last; done
        echo $$ > started.new; mv started.new started; printf %s \"$PASSWORD\" > password
        exec python3 -m http.server --bind 127.0.0.1 --directory \"$folder\" \"${address##*:}\"";
    tool(tools.path(), "code-server", serve);
    // Below those that other tests are given: nobody takes it before code-server does.
    let mut ports = (0..1_000).map(|n| 20_000 + (std::process::id() as u16 % 10 * 1_000 + n));
    let port = ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port");
    let services = SandboxServices {
        code_server_password: Some("of the editor".to_owned()),
        code_server_port: Some(port),
        ..SandboxServices::default()
    };
    let config = CreateSandboxRequest { services, ..config(&session, None, "http://127.0.0.1:9/v1") };
    let agent = stand_in(tools.path(), &says_it_listens(&opencode.url));
    let tool_path = tools.path().display().to_string();
    let mut sandbox = Sandbox::configured(config, &agent, &["--tool-path", &tool_path]);
    session.booted().await;

    let started = sandbox.path("workspace/started");
    let answer = eventually("code-server serves the work's folder", WITHIN, || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /password HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.ends_with("\r\n\r\nof the editor").then_some(())
    });
    answer.await;
    assert_eq!(session.phase("code-server").as_deref(), Some("completed"));
    let pid: u32 = std::fs::read_to_string(&started).expect("there").trim().parse().expect("a number");
    let process = ProcessId::of(pid).expect("it runs");
    sandbox.terminate();
    sandbox.ended().await;
    eventually("it is gone", WITHIN, || (!process.is_alive()).then_some(())).await;
}

#[tokio::test]
async fn the_desktop_is_not_told_the_users_variables() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let tools = tempfile::tempdir().expect("a folder");
    let tells = "env > \"$HOME/${0##*/}.new\"; mv \"$HOME/${0##*/}.new\" \"$HOME/${0##*/}\"; exec sleep 300";
    for name in ["code-server", "Xvfb", "fluxbox", "x11vnc", "websockify"] {
        tool(tools.path(), name, tells);
    }
    let services = SandboxServices {
        code_server_password: Some("of the editor".to_owned()),
        vnc_password: Some("desktop".to_owned()),
        ..SandboxServices::default()
    };
    let config = CreateSandboxRequest { services, ..config(&session, None, "http://127.0.0.1:9/v1") };
    let agent = stand_in(tools.path(), &says_it_listens(&opencode.url));
    let tool_path = tools.path().display().to_string();
    let sandbox = Sandbox::configured(config, &agent, &["--tool-path", &tool_path]);
    session.booted().await;
    let told = async |name: &str| {
        let file = sandbox.path("home").join(name);
        eventually(name, WITHIN, || std::fs::read_to_string(&file).ok()).await
    };
    let (editor, display) = (told("code-server").await, told("Xvfb").await);
    assert!(editor.contains("MY_OWN=user value\n"), "{editor}");
    assert!(display.contains("\nDISPLAY=:1\n") || display.starts_with("DISPLAY=:1\n"), "{display}");
    for absent in ["MY_OWN", "user value", "OI_SOCKET", "GIT_CONFIG"] {
        assert!(!display.contains(absent), "{absent}: {display}");
    }
}
