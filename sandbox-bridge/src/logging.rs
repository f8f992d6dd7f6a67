//! Structured logs: one JSON object a line on standard error, no payloads, no secrets.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::supervise::environment::SANDBOX_VARIABLE;

/// Puts the sandbox's name first in every line: the host's log holds those of many.
struct Named<W> {
    first: String,
    output: W,
}

impl<W: Write> Write for Named<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut whole = Vec::with_capacity(self.first.len() + line.len());
        match line.strip_prefix(b"{") {
            Some(rest) if !self.first.is_empty() => {
                whole.extend_from_slice(self.first.as_bytes());
                whole.extend_from_slice(rest);
            }
            _ => whole.extend_from_slice(line),
        }
        self.output.write_all(&whole)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Starts logging for this process. `OI_LOG` takes a filter such as `debug` or `sandbox_bridge::bridge=debug`.
pub fn start() {
    let filter = EnvFilter::try_from_env("OI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let name = std::env::var(SANDBOX_VARIABLE).unwrap_or_default();
    let first = match serde_json::to_string(&name) {
        Ok(quoted) if !name.is_empty() => format!("{{\"sandbox\":{quoted},"),
        _ => String::new(),
    };
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(move || Named { first: first.clone(), output: io::stderr() })
        .with_env_filter(filter)
        .try_init();
    // A second start (tests run several programs in one process) keeps the first one's settings.
    drop(started);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_its_sandbox() {
        let mut named = Named { first: r#"{"sandbox":"sb","#.to_owned(), output: Vec::new() };
        named.write_all(b"{\"event\":\"x\"}\n").expect("written");
        named.write_all(b"plain\n").expect("written");
        assert_eq!(named.output, b"{\"sandbox\":\"sb\",\"event\":\"x\"}\nplain\n");
    }
}
