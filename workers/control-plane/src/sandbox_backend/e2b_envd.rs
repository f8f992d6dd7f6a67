//! Starting a process in an E2B sandbox: one call of `process.Process/Start` over the Connect protocol, whose messages
//! are JSON in envelopes.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

/// Bit of an envelope's flags: the last one, which says how the stream ended.
const END_OF_STREAM: u8 = 0x02;
/// Bit of an envelope's flags: compressed. We ask for none.
const COMPRESSED: u8 = 0x01;
/// Bytes before each message: the flags, and its length.
const HEADER: usize = 5;

/// The request that runs a shell script.
pub fn start_request(script: &str) -> Vec<u8> {
    let message = json!({"process": {"cmd": "/bin/sh", "args": ["-c", script]}}).to_string();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message.as_bytes());
    body
}

#[derive(Deserialize)]
struct Message {
    event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Event {
    Start(IgnoredAny),
    Data(IgnoredAny),
    End(End),
    Keepalive(IgnoredAny),
}

#[derive(Deserialize)]
struct End {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize, Default)]
struct Trailer {
    #[serde(default)]
    error: Option<TrailerError>,
}

#[derive(Deserialize)]
struct TrailerError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Whether the script ran to its good end. The stream must say that it began, how it ended, and that it is over.
pub fn read_start(mut body: &[u8]) -> Result<(), String> {
    let (mut began, mut ended) = (false, false);
    while !body.is_empty() {
        let (header, rest) = body.split_at_checked(HEADER).ok_or("the stream is cut off")?;
        let (flags, length) = (header[0], u32::from_be_bytes([header[1], header[2], header[3], header[4]]));
        let (message, rest) = rest.split_at_checked(length as usize).ok_or("the stream is cut off")?;
        body = rest;
        if flags & COMPRESSED != 0 {
            return Err("a message is compressed".to_owned());
        }
        if flags & END_OF_STREAM != 0 {
            let trailer: Trailer =
                serde_json::from_slice(message).map_err(|_| "the end of the stream is no JSON".to_owned())?;
            return match trailer.error {
                Some(error) => Err(format!("{} {}", error.code, error.message)),
                None if !body.is_empty() => Err("something follows the end of the stream".to_owned()),
                None if began && ended => Ok(()),
                None => Err("the stream ended before the process did".to_owned()),
            };
        }
        let message: Message = serde_json::from_slice(message).map_err(|_| "an unknown message".to_owned())?;
        match message.event {
            Event::Start(_) => began = true,
            Event::Data(_) | Event::Keepalive(_) => {}
            Event::End(end) if end.status == "exit status 0" => ended = true,
            Event::End(end) => return Err(end.error.unwrap_or(end.status)),
        }
    }
    Err("the stream has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn envelope(flags: u8, message: &str) -> Vec<u8> {
        let mut bytes = vec![flags];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message.as_bytes());
        bytes
    }

    const START: &str = r#"{"event":{"start":{"pid":7}}}"#;
    const GOOD_END: &str = r#"{"event":{"end":{"exited":true,"status":"exit status 0"}}}"#;

    #[test]
    fn a_request_is_one_envelope() {
        let body = start_request("echo hi");
        let message: Value = serde_json::from_slice(&body[HEADER..]).expect("JSON");
        assert_eq!(message, json!({"process": {"cmd": "/bin/sh", "args": ["-c", "echo hi"]}}));
        assert_eq!((body[0], u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize), (0, body.len() - 5));
    }

    #[test]
    fn only_a_whole_good_stream_is_a_start() {
        let stream = |parts: &[(u8, &str)]| parts.iter().flat_map(|(flags, text)| envelope(*flags, text)).collect();
        let good: Vec<u8> =
            stream(&[(0, START), (0, r#"{"event":{"data":{"stdout":"aGk="}}}"#), (0, GOOD_END), (2, "{}")]);
        assert_eq!(read_start(&good), Ok(()));
        for cut in 0..good.len() {
            assert!(read_start(&good[..cut]).is_err(), "cut at {cut}");
        }
        let bad: [&[(u8, &str)]; 8] = [
            &[(0, START), (2, "{}")],
            &[(0, GOOD_END), (2, "{}")],
            &[(0, START), (0, r#"{"event":{"end":{"status":"exit status 1"}}}"#), (2, "{}")],
            &[(0, START), (0, r#"{"event":{"end":{"status":"signal: killed","error":"oom"}}}"#), (2, "{}")],
            &[(0, START), (0, GOOD_END), (2, r#"{"error":{"code":"internal","message":"x"}}"#)],
            &[(0, START), (0, GOOD_END), (2, "{}"), (0, START)],
            &[(1, START), (0, GOOD_END), (2, "{}")],
            &[(0, "[]"), (2, "{}")],
        ];
        for parts in bad {
            assert!(read_start(&stream(parts)).is_err(), "{parts:?}");
        }
    }
}
