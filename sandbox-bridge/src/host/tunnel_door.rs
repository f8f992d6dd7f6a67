//! The door that people come in at: looks at the head of each request and then passes bytes, WebSockets too.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::connect_into::{Inside, connect_into};
use super::registry::Registry;
use super::tunnels::{TOKEN_PARAMETER, Tunnel, Tunnels};

/// Cookie of a tunnel's own origin, in the place of the token.
const COOKIE: &str = "oi_tunnel";
const HEAD_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;
const HEAD_WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection ends with its sandbox's life at the latest.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const CONNECTIONS_MAX: usize = 512;

/// Serves until the host ends.
pub async fn serve(listener: TcpListener, tunnels: Arc<Tunnels>, registry: Arc<Registry>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(event = "tunnels.accept", %error);
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (tunnels, registry) = (Arc::clone(&tunnels), Arc::clone(&registry));
        tokio::spawn(async move {
            let inside = |id: &str| registry.inside(id);
            let ended = timeout(LONGEST, connection(stream, &tunnels, inside)).await;
            if let Ok(Err(error)) = ended {
                tracing::debug!(event = "tunnels.connection", %error);
            }
            drop(permit);
        });
    }
}

/// What is done with a request.
#[derive(Debug)]
enum Verdict {
    /// Its head goes to this port, as it is written here.
    Pass(u16, Vec<u8>),
    /// It is answered here.
    Answer(Vec<u8>),
}

async fn connection(
    mut stream: TcpStream,
    tunnels: &Tunnels,
    inside: impl Fn(&str) -> Option<Inside>,
) -> std::io::Result<()> {
    let Ok(read) = timeout(HEAD_WITHIN, read_head(&mut stream)).await else { return Ok(()) };
    let Some((head, rest)) = read? else { return Ok(()) };
    let sandbox = std::cell::OnceCell::new();
    let find = |host: &str| {
        let tunnel = tunnels.find(host)?;
        let found = inside(&tunnel.sandbox_id)?;
        sandbox.get_or_init(|| found);
        Some(tunnel)
    };
    let verdict = judge(&head, find);
    let answer = match (verdict, sandbox.get()) {
        (Verdict::Answer(answer), _) => answer,
        (Verdict::Pass(..), None) => say(404, "Not Found", "Nothing is known by this name."),
        (Verdict::Pass(port, head), Some(sandbox)) => {
            match timeout(CONNECT_WITHIN, connect_into(sandbox, port)).await {
                Ok(Ok(mut inside)) => {
                    inside.write_all(&head).await?;
                    inside.write_all(&rest).await?;
                    copy_bidirectional(&mut stream, &mut inside).await?;
                    return Ok(());
                }
                Ok(Err(_)) | Err(_) => say(502, "Bad Gateway", "Nothing answers on this port of the sandbox yet."),
            }
        }
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// The head with its empty line, and what came after it; `None` when there is none.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok(None);
        }
        let from = bytes.len().saturating_sub(3);
        bytes.extend_from_slice(&piece[..length]);
        if let Some(at) = bytes[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(from + at + 4);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() > HEAD_MAX_BYTES {
            return Ok(None);
        }
    }
}

fn say(status: u16, reason: &str, sentence: &str) -> Vec<u8> {
    let length = sentence.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{sentence}"
    )
    .into_bytes()
}

fn judge(head: &[u8], find: impl Fn(&str) -> Option<Tunnel>) -> Verdict {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let bad = || Verdict::Answer(say(400, "Bad Request", "This is no request."));
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return bad();
    }
    let (Some(method), Some(target)) = (request.method, request.path.filter(|path| path.starts_with('/'))) else {
        return bad();
    };
    let values = |name: &'static str| {
        let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let Some(tunnel) = values("host").next().and_then(find) else {
        return Verdict::Answer(say(404, "Not Found", "No sandbox is at this address any more."));
    };
    let (token, plain_target) = take_token(target);
    if let Some(token) = token {
        if !tunnel.token.matches(token) {
            return Verdict::Answer(say(403, "Forbidden", "This address is not valid. Open it from its session."));
        }
        // The address without the token stays in the browser's history, and the cookie with this origin alone.
        let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax");
        let answer = format!(
            "HTTP/1.1 303 See Other\r\nLocation: {plain_target}\r\nSet-Cookie: {cookie}\r\nReferrer-Policy: no-referrer\r\n\
             Cache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return Verdict::Answer(answer.into_bytes());
    }
    let ours = |pair: &&str| pair.trim().strip_prefix(COOKIE).is_some_and(|rest| rest.starts_with('='));
    let cookies = || values("cookie").flat_map(|header| header.split(';'));
    let shown =
        cookies().filter(|pair| ours(pair)).filter_map(|pair| pair.split_once('=').map(|(_, value)| value.trim()));
    if !shown.into_iter().any(|value| tunnel.token.matches(value)) {
        return Verdict::Answer(say(401, "Unauthorized", "Open this address from its session."));
    }
    let upgrades = values("upgrade").next().is_some();
    let mut passed = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // One request a connection, unless it becomes something else than requests; and our cookie is not the program's.
        if is("cookie") || is("keep-alive") || (is("connection") && !upgrades) {
            continue;
        }
        passed.extend_from_slice(header.name.as_bytes());
        passed.extend_from_slice(b": ");
        passed.extend_from_slice(header.value);
        passed.extend_from_slice(b"\r\n");
    }
    let others: Vec<&str> = cookies().filter(|pair| !ours(pair)).map(str::trim).collect();
    if !others.is_empty() {
        passed.extend_from_slice(format!("Cookie: {}\r\n", others.join("; ")).as_bytes());
    }
    if !upgrades {
        passed.extend_from_slice(b"Connection: close\r\n");
    }
    passed.extend_from_slice(b"\r\n");
    Verdict::Pass(tunnel.port, passed)
}

/// The token of a path's query, and the path without it. It begins with one slash, so that it leads nowhere else.
fn take_token(target: &str) -> (Option<&str>, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut token = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some((TOKEN_PARAMETER, value)) => {
                token = Some(value);
                false
            }
            _ => !pair.is_empty(),
        })
        .collect();
    let path = format!("/{}", path.trim_start_matches(['/', '\\']));
    (token, if rest.is_empty() { path } else { format!("{path}?{}", rest.join("&")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const TOKEN: &str = "0123456789abcdef";

    fn verdict(head: &str) -> Verdict {
        let find = |host: &str| {
            let tunnel = Tunnel { sandbox_id: "sb".to_owned(), port: 3000, token: Secret::new(TOKEN.to_owned()) };
            (host == "p3000-a.localhost:1").then_some(tunnel)
        };
        judge(head.as_bytes(), find)
    }

    fn answered(head: &str) -> String {
        match verdict(head) {
            Verdict::Answer(bytes) => String::from_utf8(bytes).expect("text"),
            Verdict::Pass(..) => panic!("passed: {head}"),
        }
    }

    fn passed(head: &str) -> String {
        match verdict(head) {
            Verdict::Pass(3000, bytes) => String::from_utf8(bytes).expect("text"),
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn a_token_is_taken_once_and_becomes_a_cookie() {
        let answer =
            answered(&format!("GET /a/b?x=1&oi_token={TOKEN}&y HTTP/1.1\r\nHost: p3000-a.localhost:1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("\r\nLocation: /a/b?x=1&y\r\n"), "{answer}");
        assert!(answer.contains(&format!("Set-Cookie: oi_tunnel={TOKEN}; Path=/; HttpOnly; SameSite=Lax\r\n")));
        // The redirect stays at this origin.
        let answer =
            answered(&format!("GET //evil.example?oi_token={TOKEN} HTTP/1.1\r\nHost: p3000-a.localhost:1\r\n\r\n"));
        assert!(answer.contains("\r\nLocation: /evil.example\r\n"), "{answer}");
    }

    #[test]
    fn who_shows_nothing_or_the_wrong_thing_is_refused() {
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHost: p3000-a.localhost:1\r\n\r\n".to_owned(), "401"),
            ("GET / HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nCookie: oi_tunnel=wrong\r\n\r\n".to_owned(), "401"),
            (format!("GET / HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nCookie: a=oi_tunnel={TOKEN}\r\n\r\n"), "401"),
            ("GET /?oi_token=wrong HTTP/1.1\r\nHost: p3000-a.localhost:1\r\n\r\n".to_owned(), "403"),
            (format!("GET / HTTP/1.1\r\nHost: p3000-b.localhost:1\r\nCookie: oi_tunnel={TOKEN}\r\n\r\n"), "404"),
            (format!("GET / HTTP/1.1\r\nCookie: oi_tunnel={TOKEN}\r\n\r\n"), "404"),
            ("GET http://x/ HTTP/1.1\r\nHost: p3000-a.localhost:1\r\n\r\n".to_owned(), "400"),
            ("nonsense\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = answered(&head);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        }
    }

    #[test]
    fn a_request_is_passed_as_it_is_without_our_cookie_and_alone_on_its_connection() {
        let head = format!(
            "POST /x?y HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nConnection: keep-alive\r\nCookie: a=1; oi_tunnel={TOKEN}; b=2\r\n\
             Content-Length: 3\r\nAuthorization: Bearer app\r\n\r\n"
        );
        assert_eq!(
            passed(&head),
            "POST /x?y HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nContent-Length: 3\r\nAuthorization: Bearer app\r\n\
             Cookie: a=1; b=2\r\nConnection: close\r\n\r\n"
        );
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Cookie: oi_tunnel={TOKEN}\r\nSec-WebSocket-Key: k\r\n\r\n"
        );
        assert_eq!(
            passed(&head),
            "GET /ws HTTP/1.1\r\nHost: p3000-a.localhost:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_while_the_sandbox_runs() {
        let inside = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = inside.local_addr().expect("bound").port();
        let program = tokio::spawn(async move {
            let (mut stream, _) = inside.accept().await.expect("accepted");
            let (head, mut said) = read_head(&mut stream).await.expect("read").expect("a head");
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.expect("written");
            while said.len() < 4 {
                stream.read_buf(&mut said).await.expect("read");
            }
            stream.write_all(&said).await.expect("written");
            String::from_utf8(head).expect("text")
        });
        let tunnels = Tunnels::new(1);
        let folder = tempfile::tempdir().expect("a folder");
        let services = oi_protocol::local_backend::SandboxServices {
            tunnel_ports: vec![port],
            ..oi_protocol::local_backend::SandboxServices::default()
        };
        tunnels.open("sb", &services, folder.path());
        let url = tunnels.access("sb").expect("open").tunnel_urls[&port].clone();
        let (host, token) = url.strip_prefix("http://").and_then(|rest| rest.split_once("/?oi_token=")).expect("a URL");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nCookie: oi_tunnel={token}\r\n\r\n"
        );
        let door = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = door.local_addr().expect("bound");
        let serve = async {
            for runs in [false, true] {
                let (stream, _) = door.accept().await.expect("accepted");
                connection(stream, &tunnels, |_| runs.then_some(Inside::Shared)).await.expect("served");
            }
        };
        let visit = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("written");
            stream.write_all(b"ping").await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("ping"), "{answer}");
        };
        timeout(Duration::from_secs(8), futures_util::future::join(serve, visit)).await.expect("in time");
        assert!(program.await.expect("no panic").contains("Upgrade: websocket"));
    }
}
