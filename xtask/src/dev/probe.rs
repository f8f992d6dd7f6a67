//! Is a program answering?

use std::time::Duration;

/// Whether a GET is answered, with any status but a 5xx, in time.
pub fn answers(url: &str, patience: Duration) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        // Loopback only: a proxy of the environment has no business here.
        .proxy(None)
        .max_redirects(0)
        .build()
        .into();
    agent.get(url).call().is_ok_and(|response| !response.status().is_server_error())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = listener.local_addr().expect("it has one");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut bytes = [0; 1024];
                let _ = stream.read(&mut bytes);
                let _ = stream.write_all(answer);
                if answer.is_empty() {
                    thread::sleep(Duration::from_secs(5));
                }
            }
        });
        format!("http://{address}/health")
    }

    #[test]
    fn an_answer_counts_a_fault_and_silence_do_not() {
        let patience = Duration::from_millis(500);
        assert!(answers(&server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), patience));
        assert!(answers(&server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), patience));
        assert!(!answers(&server(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"), patience));
        assert!(!answers(&server(b""), patience));
    }
}
