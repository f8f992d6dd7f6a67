//! Who calls: services by their signature, people by their browser's cookie or a token of their own, sandboxes by their
//! bearer.

pub mod admission;
pub mod browser;
pub mod cookies;
pub mod github_sign_in;
pub mod google_sign_in;
pub mod id_token;
pub mod personal_token;
pub mod recheck;
pub mod service;
pub mod sign_in;
pub mod sign_in_rate;
pub mod still_admitted;
