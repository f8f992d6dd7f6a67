//! What the programs of a sandbox take: memory, the time until the session is reached, the time of a credential; each
//! beside an empty Python interpreter with `websockets` imported, in the same run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path as Parameters, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use e2e::{Failed, Outcome, check, tool};
use oi_protocol::local_backend::CreateSandboxRequest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::{ms, resident_mb, row, say};

const STARTS: usize = 15;
const CREDENTIALS: usize = 60;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// An interpreter that does nothing, with what a bridge in Python would import.
const EMPTY: &str = "import websockets.asyncio.client, sys; print('up', flush=True); sys.stdin.read()";
/// The same, from its start to a connected socket.
const CONNECTS: &str = "import asyncio, sys\nfrom websockets.asyncio.client import connect\n\
    async def main():\n    async with connect(sys.argv[1]) as socket:\n        await socket.recv()\nasyncio.run(main())";

/// A session as far as a bridge needs one, to measure against: it says when somebody connected.
struct Session {
    url: String,
    connected: mpsc::UnboundedReceiver<Instant>,
}

impl Session {
    async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (tell, connected) = mpsc::unbounded_channel();
        let router = Router::new()
            .route("/sessions/{id}/ws", get(upgrade))
            .route("/sessions/{id}/scm-credentials", post(credentials))
            .route("/sessions/{id}/commit-signing", get(async || Json(json!({"enabled": false}))))
            .with_state(Arc::new(tell));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, connected })
    }

    async fn next(&mut self) -> Outcome<Instant> {
        timeout(PATIENCE, self.connected.recv()).await?.ok_or_else(|| Failed("the session ended".to_owned()))
    }
}

async fn upgrade(
    State(tell): State<Arc<mpsc::UnboundedSender<Instant>>>,
    Parameters(_): Parameters<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(async move |mut socket: WebSocket| {
        // Without a listener nothing is measured.
        let _ = tell.send(Instant::now());
        let hello = json!({"type": "hello", "dialect": 2, "ackedSeq": 0, "parts": []}).to_string();
        drop(socket.send(Message::text(hello)).await);
        while let Some(Ok(message)) = socket.recv().await {
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(seq) = frame["seq"].as_i64() {
                drop(socket.send(Message::text(json!({"type": "ack", "seq": seq}).to_string())).await);
            }
        }
    })
}

async fn credentials() -> Json<Value> {
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let end = end as u64 + 3_600_000;
    Json(json!({"username": "x-access-token", "password": "of-the-benchmark", "expires_at_epoch_ms": end}))
}

/// A supervisor with its bridge. In the agent's place is a program that answers nothing.
struct Sandbox {
    folder: tempfile::TempDir,
    program: PathBuf,
    supervisor: Child,
    began: Instant,
}

impl Sandbox {
    async fn start(program: &Path, session: &Session) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("oi-bench-").tempdir()?;
        let quiet = TcpListener::bind("127.0.0.1:0").await?;
        let agent = folder.path().join("opencode");
        let script =
            format!("#!/bin/sh\necho opencode server listening on http://{}\nexec sleep 600\n", quiet.local_addr()?);
        std::fs::write(&agent, script)?;
        std::fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let config = CreateSandboxRequest {
            sandbox_id: "sandbox-bench".to_owned(),
            session_id: "a".repeat(32),
            control_plane_url: session.url.clone(),
            auth_token: TOKEN.to_owned(),
            timeout_seconds: 600,
            vcs_host: "github.com".to_owned(),
            model: "demo/scripted".to_owned(),
            ..CreateSandboxRequest::default()
        };
        let config = serde_json::to_vec(&config)?;
        let mut command = Command::new(program);
        command.arg("supervise").arg("--opencode").arg(&agent);
        for (flag, name) in
            [("--workspace", "workspace"), ("--home", "home"), ("--runtime-dir", "run"), ("--temporary-dir", "tmp")]
        {
            command.arg(flag).arg(folder.path().join(name));
        }
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("OI_LOG", "error")
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        let began = Instant::now();
        let mut supervisor = command.spawn()?;
        let mut input = supervisor.stdin.take().ok_or_else(|| Failed("no input".to_owned()))?;
        input.write_all(&config).await?;
        drop(input);
        Ok(Self { folder, program: program.to_owned(), supervisor, began })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("OI_SOCKET", self.folder.path().join("run/bridge.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn end(mut self) -> Outcome {
        self.supervisor.kill().await?;
        Ok(())
    }
}

fn pid(child: &Child) -> Outcome<u32> {
    child.id().ok_or_else(|| Failed("a program ended".to_owned()))
}

/// Proportional share of memory, in MB: pages that several processes have are counted once in all of them together.
fn share_mb(pid: u32) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.map(|kb| kb / 1024.0).ok_or_else(|| Failed(format!("no memory of {pid}")))
}

fn memory_of(children: &[&Child]) -> Outcome<(f64, f64)> {
    let (mut share, mut resident) = (0.0, 0.0);
    for child in children {
        let pid = pid(child)?;
        share += share_mb(pid)?;
        resident += resident_mb(pid).ok_or_else(|| Failed(format!("no memory of {pid}")))?;
    }
    Ok((share, resident))
}

fn python(arguments: &[&str]) -> Outcome<Child> {
    let python = std::env::var("OI_WEBSOCKETS_PYTHON")
        .map_err(|_| Failed("OI_WEBSOCKETS_PYTHON names no Python: run `cargo xtask bench`".to_owned()))?;
    Ok(Command::new(python).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

async fn line_of(child: &mut Child) -> Outcome<String> {
    let output = child.stdout.as_mut().ok_or_else(|| Failed("no output".to_owned()))?;
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(output).read_line(&mut line)).await??;
    Ok(line)
}

/// Supervisor, bridge, MCP server and a helper that waits for git, all at the same time.
async fn memory(program: &Path, session: &mut Session) -> Outcome<([f64; 4], [f64; 2])> {
    let sandbox = Sandbox::start(program, session).await?;
    session.next().await?;
    let mut mcp = sandbox.command(&["mcp"]).spawn()?;
    let mut input = mcp.stdin.take().ok_or_else(|| Failed("no input".to_owned()))?;
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\n").await?;
    check!(line_of(&mut mcp).await?.contains("spawn-task"), "the MCP server has its tools");
    check!(credential(&sandbox).await?.contains("of-the-benchmark"), "the helper answers");
    let helper = sandbox.command(&["git-credential", "get"]).spawn()?;
    let mut empty = python(&["-c", EMPTY])?;
    check!(line_of(&mut empty).await? == "up\n", "Python starts");
    sleep(Duration::from_millis(500)).await;
    let (share, _) = memory_of(&[&sandbox.supervisor, &mcp, &helper])?;
    let alone = |child: &Child| memory_of(&[child]).map(|(_, resident)| resident);
    let ours = [share, alone(&sandbox.supervisor)?, alone(&mcp)?, alone(&helper)?];
    let (share, resident) = memory_of(&[&empty])?;
    drop(input);
    sandbox.end().await?;
    Ok((ours, [share, resident]))
}

async fn credential(sandbox: &Sandbox) -> Outcome<String> {
    let mut child = sandbox.command(&["git-credential", "get"]).spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| Failed("no input".to_owned()))?;
    input.write_all(b"protocol=https\nhost=github.com\npath=acme/api.git\n\n").await?;
    drop(input);
    let output = timeout(PATIENCE, child.wait_with_output()).await??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn credentials_and_starts(program: &Path, session: &mut Session) -> Outcome<[Vec<f64>; 4]> {
    let (mut starts, mut python_starts, mut helper, mut python_helper) = (vec![], vec![], vec![], vec![]);
    let address = session.url.replacen("http", "ws", 1) + "/sessions/a/ws";
    for _ in 0..STARTS {
        let sandbox = Sandbox::start(program, session).await?;
        starts.push(session.next().await?.duration_since(sandbox.began).as_secs_f64() * 1000.0);
        let socket = sandbox.folder.path().join("run/bridge.sock");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            sleep(Duration::from_millis(5)).await;
            check!(sandbox.began.elapsed() < PATIENCE, "the supervisor opens its socket");
        }
        credential(&sandbox).await?;
        for _ in 0..CREDENTIALS / STARTS {
            let begun = Instant::now();
            let answer = credential(&sandbox).await?;
            helper.push(ms(begun));
            check!(answer.contains("of-the-benchmark"), "the helper answers: {answer}");
        }
        sandbox.end().await?;
        let begun = Instant::now();
        let mut child = python(&["-c", CONNECTS, &address])?;
        python_starts.push(session.next().await?.duration_since(begun).as_secs_f64() * 1000.0);
        timeout(PATIENCE, child.wait()).await??;
        let begun = Instant::now();
        let mut child = python(&["-c", "import websockets.asyncio.client"])?;
        timeout(PATIENCE, child.wait()).await??;
        python_helper.push(ms(begun));
    }
    Ok([starts, python_starts, helper, python_helper])
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn ratio(what: &str, ours: &[f64], theirs: &[f64]) {
    say(&format!("| {what}: least of ours to least of Python's | {:.2} | | |", least(ours) / least(theirs)));
}

/// All of it.
pub async fn bridge() -> Outcome {
    let program = PathBuf::from(tool("sandboxBridge")?);
    let mut session = Session::start().await?;
    let (mut ours, mut theirs) = ([const { Vec::new() }; 4], [const { Vec::new() }; 2]);
    for _ in 0..ROUNDS {
        let (of_ours, of_theirs) = memory(&program, &mut session).await?;
        ours.iter_mut().zip(of_ours).for_each(|(samples, sample)| samples.push(sample));
        theirs.iter_mut().zip(of_theirs).for_each(|(samples, sample)| samples.push(sample));
    }
    let ([together, supervisor, mcp, helper], [empty_share, empty]) = (ours, theirs);
    ratio("memory", &together, &empty_share);
    row("supervisor with bridge, MCP server and credential helper together (shared pages once)", together, "MB");
    row("supervisor with bridge, resident", supervisor, "MB");
    row("MCP server, resident", mcp, "MB");
    row("credential helper, resident", helper, "MB");
    row("one empty Python interpreter with `websockets` (shared pages once)", empty_share, "MB");
    row("the same, resident", empty, "MB");
    let [starts, python_starts, helper, python_helper] = credentials_and_starts(&program, &mut session).await?;
    ratio("start to connected", &starts, &python_starts);
    row("start of the supervisor to connected to a session", starts, "ms");
    row("start of Python to connected with `websockets`", python_starts, "ms");
    ratio("credential", &helper, &python_helper);
    row("credential helper, start to end", helper, "ms");
    row("empty Python interpreter with `websockets`, start to end", python_helper, "ms");
    Ok(())
}
