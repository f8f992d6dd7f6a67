//! The clients of the code hosts against the local forge, over real HTTP; what they send, against what the vendors
//! publish.

mod github;
mod gitlab;
mod pull_requests;
mod published;
mod support;
mod webhook_examples;
