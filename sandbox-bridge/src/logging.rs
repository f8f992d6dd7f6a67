//! Structured logs: one JSON object a line on standard error, no payloads, no secrets.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. `OI_LOG` takes a filter such as `debug` or `sandbox_bridge::bridge=debug`.
pub fn start() {
    let filter = EnvFilter::try_from_env("OI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .try_init();
    // A second start (tests run several programs in one process) keeps the first one's settings.
    drop(started);
}
