//! The programs that git and the agent start in a sandbox: the credential helper, `gh`, `upload-media`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config, program};
use crate::support::session::{GIT_PASSWORD, Session};

const ASKED: &str = "protocol=https\nhost=github.com\npath=acme/api.git\n\n";

struct World {
    session: Session,
    _opencode: FakeOpenCode,
    sandbox: Sandbox,
}

impl World {
    /// A sandbox whose code host is GitHub.
    async fn start() -> Self {
        let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
        let mut sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
        session.booted().await;
        sandbox.crash();
        sandbox.config = config(&session, None, "http://127.0.0.1:9/v1");
        "github.com".clone_into(&mut sandbox.config.vcs_host);
        sandbox.start();
        session.connected(2).await;
        let socket = sandbox.path("run/bridge.sock");
        let answers = || std::os::unix::net::UnixStream::connect(&socket).ok();
        crate::support::eventually("the socket", std::time::Duration::from_secs(10), answers).await;
        Self { session, _opencode: opencode, sandbox }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("OI_SOCKET", self.sandbox.path("run/bridge.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn helper(&self, action: &str, input: &str) -> (String, bool) {
        let output = run(self.command(&["git-credential", action]), input).await;
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    }

    fn calls(&self) -> usize {
        self.session.inner.credential_calls.load(Ordering::Relaxed)
    }
}

async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().expect("it starts");
        // One that reads nothing may have closed it.
        drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
        child.wait_with_output().expect("it ends")
    };
    tokio::task::spawn_blocking(run).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_share_one_answer() {
    let world = World::start().await;
    let answers = futures_util::future::join_all((0..12).map(|_| world.helper("get", ASKED))).await;
    let expected = format!(
        "protocol=https\nhost=github.com\npath=acme/api.git\nusername=x-access-token\npassword={GIT_PASSWORD}\n\n"
    );
    assert!(answers.iter().all(|(answer, orderly)| *answer == expected && *orderly), "{answers:?}");
    assert_eq!(world.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_about_to_end_is_not_given_again_even_when_there_is_no_other() {
    let world = World::start().await;
    world.session.inner.credential_life.store(0, Ordering::Relaxed);
    let (answer, _) = world.helper("get", ASKED).await;
    assert!(answer.contains(GIT_PASSWORD));
    world.session.inner.refuse_credentials_with.store(403, Ordering::Relaxed);
    assert_eq!(world.helper("get", ASKED).await, (String::new(), false), "a failure is told apart from a refusal");
    world.session.inner.refuse_credentials_with.store(0, Ordering::Relaxed);
    assert!(world.helper("get", ASKED).await.0.contains(GIT_PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_forge_refused_is_fetched_anew_and_what_is_stored_or_unknown_does_nothing() {
    let world = World::start().await;
    world.helper("get", ASKED).await;
    let with = |password: &str| ASKED.replace("\n\n", &format!("\nusername=x\npassword={password}\n\n"));
    for (action, input) in [
        ("store", with(GIT_PASSWORD)),
        ("erase", with("of somebody before")),
        ("erase", with(GIT_PASSWORD).replace("github.com", "evil.example")),
        ("capability", String::new()),
    ] {
        assert_eq!(world.helper(action, &input).await, (String::new(), true), "{action}");
        world.helper("get", ASKED).await;
        assert_eq!(world.calls(), 1, "{action} {input}");
    }
    assert_eq!(world.helper("erase", &with(GIT_PASSWORD)).await, (String::new(), true));
    world.helper("get", ASKED).await;
    assert_eq!(world.calls(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_supervisor_there_is_no_credential_and_gh_token_still_succeeds() {
    let run_alone = async |action: &'static str| {
        let mut command = Command::new(program());
        command.args(["git-credential", action]).env_clear().env("VCS_CLONE_TOKEN", "of somewhere else");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = run(command, ASKED).await;
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    };
    assert_eq!(run_alone("get").await, (String::new(), false));
    assert_eq!(run_alone("erase").await, (String::new(), true));
    assert_eq!(run_alone("gh-token").await, (String::new(), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gh_gets_a_token_in_its_environment_alone_and_never_in_place_of_the_users() {
    let world = World::start().await;
    assert_eq!(world.helper("gh-token", "").await, (format!("{GIT_PASSWORD}\n"), true));
    let tools = tempfile::tempdir().expect("a folder");
    let gh = tools.path().join("gh");
    std::fs::write(&gh, "#!/bin/sh\necho \"$GH_TOKEN|$*|$(tr '\\0' ' ' < /proc/$$/cmdline)\"; exit 3\n")
        .expect("written");
    std::fs::set_permissions(&gh, std::fs::Permissions::from_mode(0o755)).expect("set");
    // A link to this program under the same name comes first.
    let links = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(program(), links.path().join("gh")).expect("linked");
    let path = format!("{}:{}:/usr/bin:/bin", links.path().display(), tools.path().display());
    let said = async |variables: &[(&str, &str)]| {
        let mut command = world.command(&[]);
        command.env("PATH", &path).envs(variables.iter().copied());
        let mut by_name = Command::new(links.path().join("gh"));
        by_name.args(["pr", "list", "--json", "x"]).env_clear();
        by_name.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        by_name.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = run(by_name, "").await;
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let minted = said(&[]).await;
    let (token, rest) = minted.split_once('|').expect("two parts");
    assert_eq!(token, GIT_PASSWORD);
    assert!(rest.starts_with("pr list --json x|") && !rest.contains(GIT_PASSWORD), "{rest}");
    assert!(said(&[("GITHUB_TOKEN", "own")]).await.starts_with('|'));
    assert!(said(&[("GH_TOKEN", "own")]).await.starts_with("own|"));
    assert!(said(&[("OI_SOCKET", "/nowhere")]).await.starts_with('|'), "it runs all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_and_a_long_recording_reach_the_control_plane_whole() {
    let world = World::start().await;
    let answer =
        serde_json::json!({"artifactId": "0123456789abcdef0123456789abcdef", "objectKey": "sessions/s/a1.png"});
    world.session.taken().calls.answer("POST media", 201, answer);
    let picture = world.sandbox.path("workspace/a.png");
    std::fs::write(&picture, "a picture").expect("written");
    let line =
        ["upload-media", &picture.display().to_string(), "--caption", "It works", "--full-page"].map(String::from);
    let output = run(world.command(&line.each_ref().map(String::as_str)), "").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&answer["artifactId"], &answer["objectKey"]),
        (&"0123456789abcdef0123456789abcdef".into(), &"sessions/s/a1.png".into())
    );
    let sent = world.session.taken().calls.of("POST media").pop().expect("sent");
    let (kind, body) = (sent.content_type, sent.body);
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").expect("a form");
    let field = |name: &str, value: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let expected = [
        field("caption", "It works"),
        field("fullPage", "true"),
        field("artifactType", "screenshot"),
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
             Content-Type: image/png\r\n\r\na picture\r\n--{boundary}--\r\n"
        ),
    ];
    assert_eq!(String::from_utf8_lossy(&body), expected.concat());

    let recording = world.sandbox.path("tmp/v.mp4");
    let pattern: Vec<u8> = (0..40_u32 << 20).map(|n| (n / 7) as u8).collect();
    std::fs::write(&recording, &pattern).expect("written");
    let path = recording.display().to_string();
    let line = [
        "upload-media",
        &path,
        "--artifact-type",
        "video",
        "--caption",
        "c",
        "--duration-ms",
        "5",
        "--recording-started-at",
        "1",
        "--recording-ended-at",
        "6",
        "--dimensions",
        "{}",
        "--truncated",
        "false",
    ];
    let output = run(world.command(&line), "").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let body = world.session.taken().calls.of("POST media").pop().expect("sent").body;
    assert!(body.windows(pattern.len()).any(|window| window == pattern));
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.sandbox.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 64 * 1024, "the file was never in memory whole: {peak} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_the_sandboxs_is_not_uploaded() {
    let world = World::start().await;
    let outside = world.sandbox.path("home/a.png");
    std::fs::write(&outside, "of the home").expect("written");
    let output = run(world.command(&["upload-media", &outside.display().to_string()]), "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Only files of the workspace"));
    assert!(world.session.taken().calls.of("POST media").is_empty());
}
