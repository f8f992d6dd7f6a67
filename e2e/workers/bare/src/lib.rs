//! The least that a Worker in Rust can be, built as ours are: what `cargo xtask bench` compares a cold start with.
//! Never deployed.

use worker::{Context, Env, Request, Response, event};

#[event(fetch)]
async fn fetch(_request: Request, _env: Env, _context: Context) -> worker::Result<Response> {
    Response::ok(r#"{"status":"healthy"}"#)
}
