//! The forge over real HTTP, with real git.
#![allow(clippy::unwrap_used, reason = "a test that can't go on stops")]

mod app_auth;
mod git_http;
mod hostile_input;
mod oauth;
mod pages;
mod published_schema;
mod pull_requests;
mod restart;
mod support;
mod webhooks;
