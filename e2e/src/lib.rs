//! What the black-box tests and the benchmark drive the whole system with: a running stack, signed calls, signed-in
//! people, sockets, and a sandbox backend that tests can play.

pub mod api;
pub mod backend;
pub mod bridge;
pub mod coverage;
pub mod service_auth;
pub mod socket;
pub mod stack;
pub mod workerd;

/// Anything that makes a test fail, with a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        Self(format!("HTTP: {error:?}"))
    }
}
impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self(format!("IO: {error}"))
    }
}
impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("JSON: {error}"))
    }
}
impl From<tokio_tungstenite::tungstenite::Error> for Failed {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self(format!("WebSocket: {error}"))
    }
}
impl From<tokio::time::error::Elapsed> for Failed {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self("a deadline passed".to_owned())
    }
}

/// Where a program is that `xtask` installed.
pub fn tool(name: &str) -> Outcome<String> {
    let tools: serde_json::Value = serde_json::from_str(&std::env::var("OI_TOOLS").unwrap_or_default())?;
    tools[name].as_str().map(str::to_owned).ok_or_else(|| Failed(format!("OI_TOOLS does not name {name}")))
}

/// Result of a test.
pub type Outcome<T = ()> = Result<T, Failed>;

/// Fails with a sentence when the condition does not hold.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($arg:tt)+) => {
        if !$condition {
            return Err($crate::Failed(format!($($arg)+)));
        }
    };
}

/// Fails when two values differ, showing both.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        $crate::check_eq!($left, $right, "{}", stringify!($left))
    };
    ($left:expr, $right:expr, $($arg:tt)+) => {
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::Failed(format!("{}: got {left:?}, expected {right:?}", format!($($arg)+))));
        }
    };
}
