//! Who calls: services by their signature, people by their browser's cookie, sandboxes by their bearer.

pub mod admission;
pub mod browser;
pub mod cookies;
pub mod github_sign_in;
pub mod service;
