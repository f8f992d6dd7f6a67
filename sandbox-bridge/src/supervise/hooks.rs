//! A repository's own scripts, `.openinspect/setup.sh` and `.openinspect/start.sh`: sandbox.md, section 1.5.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::hook_output::HookOutput;
use crate::git::Checkout;
use crate::process_group::GroupGuard;

/// Between asking a script to end and ending it.
const GRACE: Duration = Duration::from_secs(5);
/// For the last words of a script that ended.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Lines of its output that the log repeats when it failed.
const TOLD_LINES: usize = 50;

/// A hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Provisioning, once for an image or a fresh workspace.
    Setup,
    /// At each boot of a session's sandbox.
    Start,
}

impl Hook {
    /// `setup` or `start`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Start => "start",
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Setup => "SETUP_TIMEOUT_SECONDS",
            Self::Start => "START_TIMEOUT_SECONDS",
        }
    }

    const fn default_seconds(self) -> u64 {
        match self {
            Self::Setup => 300,
            Self::Start => 120,
        }
    }

    /// The script of a checkout, when it has one.
    pub fn script(self, checkout: &Checkout) -> Option<PathBuf> {
        let script = checkout.path.join(format!(".openinspect/{}.sh", self.name()));
        script.is_file().then_some(script)
    }

    /// The longest that it may run: whole seconds of the environment; what is no such number counts as unset.
    fn limit(self, environment: &[(OsString, OsString)]) -> Duration {
        let set = environment.iter().find(|(name, _)| name == self.variable());
        let seconds = set.and_then(|(_, value)| value.to_str()?.trim().parse().ok()).filter(|seconds| *seconds > 0);
        Duration::from_secs(seconds.unwrap_or(self.default_seconds()))
    }
}

/// The mark of a checkout whose setup is done, so that a supervisor that starts again does not repeat it.
pub fn setup_mark(checkout: &Checkout, kept: &Path) -> PathBuf {
    kept.join(format!("setup-{}.done", checkout.name))
}

/// How hooks run.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// Their whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where their output is kept, for whoever looks for the reason of a failure; `None` in a build, whose output may
    /// hold secrets and is neither kept nor told.
    pub logs: Option<PathBuf>,
    /// Values that the log does not repeat.
    pub hidden: Vec<String>,
}

impl Hooks {
    /// Runs a script to its end: that of its own process, whatever it left running. The error is a sentence for people.
    pub async fn run(&self, hook: Hook, checkout: &Checkout, script: &Path) -> Result<(), String> {
        let name = hook.name();
        let failed = |what: String| format!("{name}.sh of {}/{} {what}", checkout.owner, checkout.name);
        let io = |error: std::io::Error| failed(format!("could not be run: {error}"));
        let log = match &self.logs {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(io)?;
                Some(folder.join(format!("{name}-{}.log", checkout.name)))
            }
            None => None,
        };
        let (reader, writer) = std::io::pipe().map_err(io)?;
        let began = Instant::now();
        tracing::info!(event = "hook.start", hook = name, script = %script.display());
        let mut command = Command::new("bash");
        command
            .arg(script)
            .current_dir(&checkout.path)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(io)?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(io)?;
        // It holds the writing ends, which would keep the pipe open.
        drop(command);
        let mut group = GroupGuard::of(&child);
        let mut output = HookOutput::follow(reader, log.as_deref()).map_err(io)?;
        let limit = hook.limit(&self.environment);
        let ended = timeout(limit, child.wait()).await;
        let what = match ended {
            Ok(Ok(status)) if status.success() => {
                group.let_go();
                tracing::info!(event = "hook.complete", hook = name, duration_ms = began.elapsed().as_millis());
                return Ok(());
            }
            Ok(Ok(status)) => {
                group.let_go();
                let whole = log.map(|log| format!("; its output is in {}", log.display())).unwrap_or_default();
                format!("ended with {status}{whole}")
            }
            Ok(Err(error)) => return Err(io(error)),
            Err(_) => {
                group.end(&mut child, GRACE).await;
                format!("did not end within {} s and was stopped", limit.as_secs())
            }
        };
        output.settle(LAST_WORDS).await;
        let ms = began.elapsed().as_millis();
        if self.logs.is_some() {
            let tail = output.tail(TOLD_LINES, &self.hidden);
            tracing::warn!(event = "hook.failed", hook = name, what, duration_ms = ms, output_tail = tail);
        } else {
            tracing::warn!(event = "hook.failed", hook = name, what, duration_ms = ms);
        }
        Err(failed(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(path: &Path) -> Checkout {
        Checkout {
            position: 0,
            owner: "acme".to_owned(),
            name: "api".to_owned(),
            branch: "main".to_owned(),
            path: path.to_owned(),
            base_sha: None,
        }
    }

    struct World {
        folder: tempfile::TempDir,
        hooks: Hooks,
    }

    fn world(variables: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
        let more = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let hooks = Hooks {
            environment: std::iter::once(path).chain(more).collect(),
            logs: Some(folder.path().join("logs")),
            hidden: vec!["the-users-secret".to_owned()],
        };
        World { folder, hooks }
    }

    impl World {
        async fn run(&self, hook: Hook, script: &str) -> Result<(), String> {
            let checkout = checkout(self.folder.path());
            std::fs::create_dir_all(checkout.path.join(".openinspect")).expect("made");
            let path = checkout.path.join(format!(".openinspect/{}.sh", hook.name()));
            std::fs::write(path, script).expect("written");
            let script = hook.script(&checkout).expect("there");
            self.hooks.run(hook, &checkout, &script).await
        }
    }

    #[tokio::test]
    async fn a_hook_needs_no_right_to_be_run_and_a_failure_names_its_log() {
        let world = world(&[]);
        world.run(Hook::Setup, "pwd > where; echo said; echo complained >&2").await.expect("it ends well");
        assert!(world.folder.path().join("where").exists(), "it works in the checkout");
        let error = world.run(Hook::Start, "echo said; echo complained >&2; exit 7").await.expect_err("it fails");
        assert!(error.contains("start.sh of acme/api ended with exit status: 7"), "{error}");
        let log = std::fs::read_to_string(world.folder.path().join("logs/start-api.log")).expect("kept");
        assert_eq!(log, "said\ncomplained\n");
    }

    #[tokio::test]
    async fn a_daemon_with_open_output_does_not_hold_the_boot_and_lives_on() {
        let world = world(&[]);
        let began = Instant::now();
        let script = "(for n in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; echo tick; done; touch outlived) &\nexit 0\n";
        world.run(Hook::Start, script).await.expect("it ends well");
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        let outlived = world.folder.path().join("outlived");
        for _ in 0..500 {
            if outlived.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the daemon was killed by its output");
    }

    #[tokio::test]
    async fn a_hook_that_takes_too_long_is_asked_to_end_and_its_children_with_it() {
        let world = world(&[("START_TIMEOUT_SECONDS", "1")]);
        let script = "trap 'echo cleaned > cleaned; exit 1' TERM\n(sleep 30; touch survived) &\nsleep 30 & wait\n";
        let error = world.run(Hook::Start, script).await.expect_err("too long");
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(world.folder.path().join("cleaned").exists(), "it could clean up");
    }

    #[tokio::test]
    async fn nothing_of_a_build_is_kept() {
        let mut world = world(&[]);
        world.hooks.logs = None;
        let error = world.run(Hook::Setup, "echo the-users-secret; exit 1").await.expect_err("it fails");
        assert!(!error.contains("the-users-secret"), "{error}");
        assert!(!world.folder.path().join("logs").exists());
    }

    #[test]
    fn a_limit_that_is_no_number_counts_as_unset() {
        let of = |hook: Hook, value: &str| hook.limit(&[(hook.variable().into(), value.into())]).as_secs();
        for bad in ["", "soon", "-5", "0", "1.5", "99999999999999999999999"] {
            assert_eq!((of(Hook::Setup, bad), of(Hook::Start, bad)), (300, 120), "{bad}");
        }
        assert_eq!((of(Hook::Setup, "7"), of(Hook::Start, " 8 ")), (7, 8));
    }
}
