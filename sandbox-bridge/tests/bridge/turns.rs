//! Turns of the agent, with OpenCode played: every one ends, and says how.

use std::time::Duration;

use oi_protocol::MessageId;
use sandbox_bridge::agent::answers::Answers;
use sandbox_bridge::agent::keeper::Endpoint;
use sandbox_bridge::agent::opencode::OpenCode;
use sandbox_bridge::agent::opencode::client::OpenCodeClient;
use sandbox_bridge::agent::{Agent as _, AgentEvent, Turn, TurnEnd};
use sandbox_bridge::secret::Secret;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::id;
use crate::support::eventually;
use crate::support::opencode::{FakeOpenCode, long_output};
use crate::support::sandbox::Sandbox;
use crate::support::session::Session;

async fn world() -> (Session, FakeOpenCode, Sandbox) {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    session.booted().await;
    (session, opencode, sandbox)
}

#[tokio::test]
async fn stop_ends_the_turn_and_keeps_what_was_said() {
    let (session, _opencode, _sandbox) = world().await;
    session.prompt(&id(1), "SLOW");
    session.frame("text", |frame| frame["type"] == "part_delta").await;
    session.send(&json!({"type": "stop"}));
    let done = session.completed(&id(1)).await;
    assert_eq!((&done["success"], &done["error"]), (&json!(false), &json!("Task was cancelled")));
    assert!(session.texts(&id(1))[0].starts_with("word0😀 "));
    assert!(!session.story(&id(1)).iter().any(|kind| kind == "error"), "a stop is no error");
    session.prompt(&id(2), "PLAIN");
    assert_eq!(session.completed(&id(2)).await["success"], true, "the late idle of the stopped turn ends nothing");
    assert_eq!(session.texts(&id(2)), ["word0😀 word1😀 word2😀 word3😀 word4😀 "]);
}

#[tokio::test]
async fn an_error_of_the_provider_is_told_once() {
    let (session, _opencode, _sandbox) = world().await;
    session.prompt(&id(1), "ERROR");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "the provider refused");
    assert_eq!(session.story(&id(1)).iter().filter(|kind| *kind == "error").count(), 1);
}

#[tokio::test]
async fn a_turn_without_output_is_a_failure() {
    let (session, _opencode, _sandbox) = world().await;
    session.prompt(&id(1), "EMPTY");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "OpenCode completed without emitting assistant output.");
}

#[tokio::test]
async fn a_broken_event_stream_is_made_whole() {
    let (session, opencode, _sandbox) = world().await;
    session.prompt(&id(1), "BREAK");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert_eq!(session.texts(&id(1)), ["word0😀 word1😀 word2😀 word3😀 word4😀 "]);
    assert_eq!(opencode.prompts(), 1);
}

#[tokio::test]
async fn prompts_run_one_after_another() {
    let (session, opencode, _sandbox) = world().await;
    for n in 1..=3 {
        session.prompt(&id(n), "PLAIN");
    }
    for n in 1..=3 {
        assert_eq!(session.completed(&id(n)).await["success"], true);
    }
    let taken = session.taken();
    let ends: Vec<&str> = taken
        .frames
        .iter()
        .filter(|f| matches!(f["type"].as_str(), Some("execution_complete" | "step_start")))
        .filter_map(|f| f["type"].as_str())
        .collect();
    assert_eq!(ends, ["step_start", "execution_complete"].repeat(3));
    assert_eq!(opencode.prompts(), 3);
}

#[tokio::test]
async fn an_identity_that_git_cannot_take_fails_the_prompt() {
    let (session, opencode, _sandbox) = world().await;
    session.send(&json!({"type": "prompt", "messageId": id(1), "content": "PLAIN", "model": "demo/scripted",
        "author": {"userId": "u", "gitIdentity": {"mode": "attributed-user", "name": " ", "email": "x"}}}));
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "Invalid prompt Git identity");
    assert_eq!(opencode.prompts(), 0);
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_fails_the_prompt_with_its_last_words() {
    let session = Session::start().await;
    let _sandbox = Sandbox::with_script(&session, "echo 'no licence to run' >&2; exit 3");
    session.connected(1).await;
    session.prompt(&id(1), "PLAIN");
    let done = session.completed(&id(1)).await;
    let error = done["error"].as_str().expect("a reason");
    assert!(error.contains("exit status: 3") && error.contains("no licence to run"), "{error}");
    let told = |frame: &serde_json::Value| frame["phase"] == "agent" && frame["status"] == "failed";
    session.frame("the phase's end", told).await;
}

#[tokio::test]
async fn a_prompt_that_takes_too_long_is_aborted_and_keeps_what_was_said() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let mut sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    sandbox.crash();
    // A quarter of the sandbox's life is kept in reserve.
    sandbox.config.timeout_seconds = 8;
    sandbox.start();
    session.booted().await;
    session.prompt(&id(1), "SLOW");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["error"], "Prompt exceeded max duration of 6s.");
    assert!(session.texts(&id(1))[0].starts_with("word0😀 "));
    session.prompt(&id(2), "PLAIN");
    assert_eq!(session.completed(&id(2)).await["success"], true);
}

#[tokio::test]
async fn a_title_that_comes_after_the_turn_is_told_once() {
    let (session, opencode, _sandbox) = world().await;
    session.prompt(&id(1), "PLAIN");
    session.completed(&id(1)).await;
    opencode.name_the_session("Greet people");
    let told = session.frame("the title", |frame| frame["type"] == "session_title").await;
    assert_eq!(told["title"], "Greet people");
    session.prompt(&id(2), "PLAIN");
    session.completed(&id(2)).await;
    let titles = session.taken().frames.iter().filter(|frame| frame["type"] == "session_title").count();
    assert_eq!(titles, 1);
}

fn with_files(message_id: &str, content: &str, files: &[(&str, &str, &str)]) -> serde_json::Value {
    let files: Vec<_> =
        files.iter().map(|(id, name, mime)| json!({"attachmentId": id, "name": name, "mimeType": mime})).collect();
    json!({"type": "prompt", "messageId": message_id, "content": content, "model": "demo/scripted",
        "author": {"userId": "u", "gitIdentity": {"mode": "agent-only"}}, "attachments": files})
}

#[tokio::test]
async fn a_prompts_files_are_fetched_and_given_to_the_agent() {
    let (session, opencode, _sandbox) = world().await;
    session.taken().attachments.insert("a".to_owned(), b"\x89PNG".to_vec());
    session.taken().attachments.insert("b".to_owned(), b"GIF89a".to_vec());
    session.send(&with_files(&id(1), "PLAIN", &[("b", "y.gif", "image/gif"), ("a", "x.png", "image/png")]));
    assert_eq!(session.completed(&id(1)).await["success"], true);
    let files = [
        json!({"type": "file", "mime": "image/gif", "filename": "y.gif", "url": "data:image/gif;base64,R0lGODlh"}),
        json!({"type": "file", "mime": "image/png", "filename": "x.png", "url": "data:image/png;base64,iVBORw=="}),
    ];
    assert_eq!(opencode.parts(), json!([{"type": "text", "text": "PLAIN"}, files[0], files[1]]));
    session.send(&with_files(&id(2), "  ", &[("a", "x.png", "image/png")]));
    assert_eq!(session.completed(&id(2)).await["success"], true);
    assert_eq!(opencode.parts(), json!([files[1]]), "a prompt may be files alone");
    assert!(!session.taken().frames.iter().any(|frame| frame["type"] == "warning"));
}

#[tokio::test]
async fn files_that_cannot_be_given_are_said_and_left_out() {
    let (session, opencode, _sandbox) = world().await;
    session.taken().attachments.insert("large".to_owned(), vec![0; 10 * 1024 * 1024 + 1]);
    let files = [
        ("gone", "x.png", "image/png"),
        ("large", "large.png", "image/png"),
        ("../pr", "y.png", "image/png"),
        ("a", "z.svg", "image/svg+xml"),
    ];
    session.send(&with_files(&id(1), "PLAIN", &files));
    assert_eq!(session.completed(&id(1)).await["success"], true);
    assert_eq!(opencode.parts(), json!([{"type": "text", "text": "PLAIN"}]));
    let warnings: Vec<_> = {
        let taken = session.taken();
        let of = taken.frames.iter().filter(|frame| frame["type"] == "warning" && frame["scope"] == "media");
        of.map(|frame| frame["message"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[0], "2 invalid attachment(s) were skipped.");
    assert!(warnings[1].contains("`x.png`") && warnings[1].contains("not found"), "{}", warnings[1]);
    assert!(warnings[2].contains("`large.png`"), "{}", warnings[2]);
    let given = opencode.prompts();
    session.send(&with_files(&id(2), " ", &files[..1]));
    assert_eq!(session.completed(&id(2)).await["success"], false, "nothing is left of it");
    assert_eq!(opencode.prompts(), given);
}

#[tokio::test]
async fn a_long_output_is_stored_before_the_event_that_refers_to_it() {
    let (session, _opencode, _sandbox) = world().await;
    session.prompt(&id(1), "TOOL LONG");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    let call = session.frame("the call", |f| f["type"] == "tool_call" && f["status"] == "completed").await;
    let output = call["output"].as_str().expect("its ends");
    assert!(output.len() < 33_000 && output.starts_with("line 0 ") && output.ends_with("line 19999 äöü\n"));
    assert_eq!(call["truncated"], true);
    let name = call["outputRef"].as_str().expect("a reference");
    assert_eq!(session.taken().outputs.get(name), Some(&long_output()));
}

#[tokio::test]
async fn an_output_that_cannot_be_stored_leaves_its_ends() {
    let (session, _opencode, _sandbox) = world().await;
    session.inner.refuse_outputs_with.store(429, std::sync::atomic::Ordering::Relaxed);
    session.prompt(&id(1), "TOOL LONG");
    assert_eq!(session.completed(&id(1)).await["success"], true);
    let call = session.frame("the call", |f| f["type"] == "tool_call" && f["status"] == "completed").await;
    assert_eq!((call.get("outputRef"), &call["truncated"]), (None, &json!(true)));
}

type Told = mpsc::Receiver<AgentEvent>;

/// A turn of the bridge's own half alone, against the fake.
async fn hanging_turn(
    silence: Duration,
    lasts: Duration,
) -> (FakeOpenCode, watch::Sender<Endpoint<OpenCodeClient>>, Answers, Told, JoinHandle<TurnEnd>) {
    let opencode = FakeOpenCode::start().await;
    let client = OpenCodeClient::http().expect("a client");
    let client = OpenCodeClient::new(client, opencode.url.clone(), Secret::new("x"));
    let (endpoint, seen) = watch::channel(Endpoint::Up { agent: client, incarnation: 1 });
    let folder = tempfile::tempdir().expect("a folder");
    let agent = OpenCode::new(seen, folder.path().join("session")).with_silence(silence);
    let answers = Answers::default();
    let turn = Turn {
        message_id: MessageId::from_bytes([1; 16]),
        text: "HANG".to_owned(),
        files: Vec::new(),
        model: "demo/scripted".to_owned(),
        effort: None,
        directory: folder.path().to_owned(),
        deadline: Instant::now() + lasts,
        resume: None,
        answers: answers.clone(),
    };
    let (events, told) = mpsc::channel(64);
    let run = tokio::spawn(async move {
        let (_stop, stopped) = watch::channel(false);
        let end = agent.run(turn, events, stopped).await;
        drop(folder);
        end
    });
    (opencode, endpoint, answers, told, run)
}

#[tokio::test]
async fn a_model_that_hangs_is_given_up_though_the_agents_heart_beats() {
    let (_opencode, _endpoint, _answers, _told, run) =
        hanging_turn(Duration::from_millis(400), Duration::from_secs(60)).await;
    let end = run.await.expect("no panic");
    assert!(matches!(&end, TurnEnd::Broken(text) if text.starts_with("The agent did nothing")), "{end:?}");
}

#[tokio::test]
async fn the_time_of_a_person_is_not_the_turns_also_when_the_process_is_lost() {
    let (opencode, endpoint, answers, mut told, run) =
        hanging_turn(Duration::from_secs(60), Duration::from_secs(2)).await;
    eventually("the prompt", Duration::from_secs(2), || (opencode.prompts() == 1).then_some(())).await;
    opencode.ask();
    let request = loop {
        if let AgentEvent::Question { request_id, .. } = told.recv().await.expect("a question") {
            break request_id;
        }
    };
    sleep(Duration::from_millis(2500)).await;
    answers.put(&request, Some("yes".to_owned()));
    eventually("the answer", Duration::from_secs(5), || (opencode.replies() == 1).then_some(())).await;
    endpoint.send_replace(Endpoint::Starting);
    opencode.die();
    sleep(Duration::from_millis(100)).await;
    endpoint.send_replace(Endpoint::Failed("It is given up.".to_owned()));
    let end = run.await.expect("no panic");
    assert!(matches!(&end, TurnEnd::Broken(text) if text == "It is given up."), "{end:?}");
}
