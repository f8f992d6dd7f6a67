//! The web terminal with nothing played: a page's socket, its Durable Object, the bridge, a shell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use e2e::api::{Person, raw};
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use futures_util::{SinkExt as _, StreamExt as _};
use oi_protocol::terminal::{CLOSE_ENDED, CLOSE_OFF, WINDOW_BYTES};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::World;
use crate::browser::run_script;
use crate::crashes::{command_line, parent, processes};

const UP_WITHIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// A page at a terminal.
struct Viewer {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// JSON that nobody has waited for yet.
    events: VecDeque<Value>,
    /// Output since the last `opened`.
    output: String,
    /// Bytes of it, and of all before it.
    bytes: usize,
    /// Whether it says what it has shown.
    tells: bool,
    closed: Option<u16>,
}

impl Viewer {
    /// Opens a socket; a refused upgrade gives its status.
    async fn connect(ready: &Ready, session: &str, headers: &[(&'static str, &str)]) -> Outcome<Result<Self, u16>> {
        let url = format!("{}/api/sessions/{session}/terminal", ready.base_url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| Failed(format!("bad header {name}")))?;
            request.headers_mut().insert(*name, value);
        }
        match tokio::time::timeout(SOON, tokio_tungstenite::connect_async(request)).await? {
            Ok((stream, _)) => {
                let (events, output) = (VecDeque::new(), String::new());
                Ok(Ok(Self { stream, events, output, bytes: 0, tells: true, closed: None }))
            }
            Err(Error::Http(response)) => Ok(Err(response.status().as_u16())),
            Err(error) => Err(error.into()),
        }
    }

    async fn of(ready: &Ready, session: &str, person: &Person) -> Outcome<Self> {
        let headers = [("Cookie", person.cookie.as_str()), ("Origin", ready.base_url.as_str())];
        Self::connect(ready, session, &headers).await?.map_err(|status| Failed(format!("the upgrade got {status}")))
    }

    async fn say(&mut self, message: &Value) -> Outcome {
        Ok(self.stream.send(Message::text(message.to_string())).await?)
    }

    async fn open(&mut self, terminal: u8, cols: u16, rows: u16) -> Outcome {
        self.say(&json!({"type": "open", "terminal": terminal, "size": {"cols": cols, "rows": rows}})).await
    }

    async fn type_keys(&mut self, keys: &str) -> Outcome {
        Ok(self.stream.send(Message::binary(keys.as_bytes().to_vec())).await?)
    }

    /// Takes one frame, if one comes in time.
    async fn take(&mut self, until: Instant) -> Outcome {
        match timeout_at(until.into(), self.stream.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => {
                let event: Value = serde_json::from_str(&text)?;
                if event["type"] == "opened" {
                    self.output.clear();
                }
                self.events.push_back(event);
            }
            Ok(Some(Ok(Message::Binary(bytes)))) => {
                self.bytes += bytes.len();
                self.output.push_str(&String::from_utf8_lossy(&bytes));
                if self.tells {
                    self.say(&json!({"type": "shown", "bytes": bytes.len()})).await?;
                }
            }
            Ok(Some(Ok(Message::Close(frame)))) => self.closed = Some(frame.map_or(1005, |frame| frame.code.into())),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) => self.closed = self.closed.or(Some(1006)),
            Err(_) => return Err(Failed("nothing more came in time".to_owned())),
        }
        Ok(())
    }

    async fn until_output(&mut self, what: &str) -> Outcome {
        let until = Instant::now() + SOON;
        while !self.output.contains(what) {
            check!(self.closed.is_none(), "closed with {:?} before {what}", self.closed);
            let end: String = self.output.chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
            self.take(until).await.map_err(|error| Failed(format!("{what}: {error}; {end:?}; {:?}", self.events)))?;
        }
        Ok(())
    }

    /// The next event that fits; those before it are passed over.
    async fn until_event(&mut self, within: Duration, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let until = Instant::now() + within;
        let mut passed = Vec::new();
        loop {
            while let Some(event) = self.events.pop_front() {
                if fits(&event) {
                    return Ok(event);
                }
                passed.push(event);
            }
            check!(self.closed.is_none(), "closed with {:?} after {passed:?}", self.closed);
            self.take(until).await.map_err(|error| Failed(format!("{error} after {passed:?}")))?;
        }
    }

    async fn until_closed(&mut self) -> Outcome<u16> {
        let until = Instant::now() + SOON;
        while self.closed.is_none() {
            self.take(until).await?;
        }
        Ok(self.closed.unwrap_or_default())
    }
}

async fn turn_on(person: &Person, on: bool) -> Outcome {
    let path = "/api/integration-settings/sandbox/repos/acme/sample-service";
    let answer = person.call(Method::PUT, path, Some(&json!({"settings": {"terminalEnabled": on}}))).await?;
    check_eq!(answer.status.as_u16(), 200, "turning terminals on or off ({})", answer.text);
    Ok(())
}

/// A session whose sandbox is up.
async fn session(person: &Person) -> Outcome<String> {
    let session = person.create_session().await?;
    let begun = Instant::now();
    while person.snapshot(&session).await?["session"]["sandboxStatus"] != "ready" {
        check!(begun.elapsed() < UP_WITHIN, "the sandbox is not up: {}", person.snapshot(&session).await?["session"]);
        sleep(Duration::from_millis(200)).await;
    }
    Ok(session)
}

async fn end(person: &Person, session: &str) -> Outcome {
    let answer = person.call(Method::POST, &format!("/api/sessions/{session}/archive"), Some(&json!({}))).await?;
    check_eq!(answer.status.as_u16(), 200, "archiving ({})", answer.text);
    Ok(())
}

/// The supervisor of one sandbox: by its own command line, or by that of the process that set it apart.
fn supervisor_of(sandbox: &str) -> Outcome<u32> {
    for pid in processes()? {
        let words = command_line(pid);
        let is_supervisor = words.split(' ').next().is_some_and(|program| program.ends_with("sandbox-bridge"))
            && words.split(' ').nth(1) == Some("supervise");
        let above = [Some(pid), parent(pid), parent(pid).and_then(parent)];
        if is_supervisor && above.into_iter().flatten().any(|pid| command_line(pid).contains(sandbox)) {
            return Ok(pid);
        }
    }
    Err(Failed(format!("no supervisor of {sandbox}")))
}

pub async fn two_people_share_a_terminal_and_a_restart_is_told(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    turn_on(&ada, true).await?;
    let session = session(&ada).await?;

    let mut hers = Viewer::of(ready, &session, &ada).await?;
    hers.until_event(SOON, |event| event["type"] == "sandbox" && event["reachable"] == true).await?;
    hers.open(0, 80, 24).await?;
    let opened = hers.until_event(SOON, |event| event["type"] == "opened").await?;
    check_eq!(opened, json!({"type": "opened", "terminal": 0, "size": {"cols": 80, "rows": 24}, "started": true}));
    hers.type_keys("echo together-$((40+2)) [$SANDBOX_AUTH_TOKEN]\n").await?;
    hers.until_output("together-42 []").await?;

    // Who comes later sees what there was, and both see what follows, in the size of who typed last.
    let mut theirs = Viewer::of(ready, &session, &grace).await?;
    theirs.open(0, 46, 20).await?;
    let opened = theirs.until_event(SOON, |event| event["type"] == "opened").await?;
    check_eq!(opened["started"], false, "the shell runs already");
    theirs.until_output("together-42").await?;
    hers.until_event(SOON, |event| *event == json!({"type": "resized", "size": {"cols": 46, "rows": 20}})).await?;
    theirs.type_keys("stty size\n").await?;
    for viewer in [&mut hers, &mut theirs] {
        viewer.until_output("20 46").await?;
    }
    hers.type_keys("echo mine-$((1+1)); stty size\n").await?;
    for viewer in [&mut hers, &mut theirs] {
        viewer.until_output("mine-2").await?;
        viewer.until_output("24 80").await?;
    }

    // One who shows nothing is not drowned, and has the end when they have caught up.
    theirs.tells = false;
    let before = theirs.bytes;
    hers.type_keys("seq 1 300000; echo flood-$((2*21))\n").await?;
    hers.until_output("flood-42").await?;
    let quiet = Instant::now() + Duration::from_secs(2);
    while theirs.take(quiet).await.is_ok() {}
    check!(theirs.bytes - before <= WINDOW_BYTES, "{} bytes were sent to a page that shows nothing", theirs.bytes);
    theirs.tells = true;
    theirs.events.clear();
    theirs.say(&json!({"type": "shown", "bytes": WINDOW_BYTES})).await?;
    theirs.until_event(SOON, |event| event["type"] == "opened").await?;
    theirs.until_output("flood-42").await?;

    // The supervisor dies: people are told, and open the terminal anew.
    hers.type_keys("echo \"<$OI_SANDBOX_ID>-$((1+1))\"\n").await?;
    hers.until_output(">-2").await?;
    let sandbox =
        hers.output.split(">-2").next().and_then(|rest| rest.rsplit('<').next()).unwrap_or_default().to_owned();
    check!(sandbox.starts_with("sandbox-"), "the shell does not know its sandbox: {sandbox}");
    world.stack.kill(supervisor_of(&sandbox)?).await?;
    hers.until_event(SOON, |event| event["type"] == "sandbox" && event["reachable"] == false).await?;
    hers.until_event(UP_WITHIN, |event| event["type"] == "restarted").await?;
    hers.open(0, 80, 24).await?;
    let opened = hers.until_event(SOON, |event| event["type"] == "opened").await?;
    check_eq!(opened["started"], true, "another shell");
    hers.type_keys("echo again-$((4+3))\n").await?;
    hers.until_output("again-7").await?;

    // Its end is told, and its sockets are closed.
    end(&ada, &session).await?;
    for viewer in [&mut hers, &mut theirs] {
        viewer.until_event(SOON, |event| *event == json!({"type": "ended", "reason": "sandbox_ended"})).await?;
        check_eq!(viewer.until_closed().await?, CLOSE_ENDED, "the close");
    }
    Ok(())
}

pub async fn a_terminal_is_for_people_at_our_own_pages_where_it_is_turned_on(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    turn_on(&ada, true).await?;
    let session = session(&ada).await?;
    let (cookie, own) = (ada.cookie.as_str(), ready.base_url.as_str());
    let unknown = "0".repeat(32);
    for (id, headers, status, what) in [
        (&session, vec![("Cookie", cookie), ("Origin", "https://evil.example")], 403, "another site's page"),
        (&session, vec![("Cookie", cookie), ("Origin", own), ("Sec-Fetch-Site", "cross-site")], 403, "its frame"),
        (&session, vec![("Origin", own)], 401, "somebody who is not signed in"),
        (&session, vec![("Cookie", "better-auth.session_token=forged"), ("Origin", own)], 401, "a forged cookie"),
        (&unknown, vec![("Cookie", cookie), ("Origin", own)], 404, "a session that is not there"),
    ] {
        let refused = Viewer::connect(ready, id, &headers).await?.err();
        check_eq!(refused, Some(status), "{what}");
    }
    // Without an upgrade, and for a stranger in the bridge's place.
    let path = format!("/api/sessions/{session}/terminal");
    check_eq!(ada.call(Method::GET, &path, None).await?.status.as_u16(), 426, "a plain GET");
    let stranger = [("Authorization", "Bearer 00000000000000000000000000000000".to_owned())];
    let answer = raw(ready, Method::GET, &format!("/sessions/{session}/terminal"), &stranger, None).await?;
    check_eq!(answer.status.as_u16(), 401, "a stranger's token ({})", answer.text);

    turn_on(&ada, false).await?;
    let mut off = Viewer::of(ready, &session, &ada).await?;
    off.until_event(SOON, |event| *event == json!({"type": "ended", "reason": "turned_off"})).await?;
    check_eq!(off.until_closed().await?, CLOSE_OFF, "the close");
    turn_on(&ada, true).await?;
    end(&ada, &session).await?;
    let begun = Instant::now();
    loop {
        let mut late = Viewer::of(ready, &session, &ada).await?;
        let said = late.until_event(SOON, |event| event["type"] == "ended" || event["type"] == "sandbox").await?;
        if said == json!({"type": "ended", "reason": "no_sandbox"}) {
            return Ok(());
        }
        check!(begun.elapsed() < SOON, "the sandbox is gone and its terminal is not: {said}");
        sleep(Duration::from_millis(300)).await;
    }
}

pub async fn a_browser_types_in_a_terminal_at_a_desktops_and_a_phones_width(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    turn_on(&ada, true).await?;
    let session = session(&ada).await?;
    run_script(world, "terminal.mjs", Duration::from_secs(150), &[("SESSION", &session)]).await?;
    end(&ada, &session).await
}
