//! The clients of the code hosts against the local forge, over real HTTP; what they send, against what the vendors
//! publish.

mod github;
mod gitlab;
mod published;
mod pull_requests;
mod support;
mod webhook_examples;
