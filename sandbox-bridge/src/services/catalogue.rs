//! The services: which programs, on which ports, with which readiness (sandbox.md 1.10 and 5).

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oi_protocol::local_backend::{CODE_SERVER_PORT, DESKTOP_PORT};

use super::child::{ChildSpec, Readiness, find};
use super::stack::Stack;
use crate::secret::Secret;

/// Name of code-server's phase.
pub const CODE_SERVER: &str = "code-server";
/// Name of the desktop's phase.
pub const DESKTOP: &str = "desktop";
/// The desktop's display.
pub const DISPLAY: &str = ":1";
/// Port of the desktop behind its page. Settings cannot give it to anything else.
const VNC_PORT: u16 = 5900;
/// VNC takes no more of a password.
const VNC_PASSWORD_MAX_BYTES: usize = 8;
const UP_WITHIN: Duration = Duration::from_secs(5);
/// Where Debian's package puts the desktop's page.
const PAGE: &str = "/usr/share/novnc";

type Environment = [(OsString, OsString)];

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// The editor.
pub struct CodeServer {
    /// Address.
    pub bind: &'static str,
    /// Port, when one is set.
    pub port: Option<u16>,
    /// Its password.
    pub password: Secret,
}

impl CodeServer {
    /// Its program; an error is a sentence for people.
    pub fn stack(self, environment: &Environment) -> Result<Stack, String> {
        let address = format!("{}:{}", self.bind, self.port.unwrap_or(CODE_SERVER_PORT));
        let mut own = environment.to_vec();
        // It takes the password out of its environment before it starts anything.
        own.push(("PASSWORD".into(), self.password.reveal().into()));
        let child = ChildSpec {
            name: CODE_SERVER,
            program: find(environment, "code-server")?,
            arguments: words([
                "--auth",
                "password",
                "--disable-telemetry",
                "--disable-update-check",
                // It can do nothing here that the agent and its tools cannot.
                "--disable-workspace-trust",
                // Ports have origins of their own: on the editor's they could act as it does.
                "--disable-proxy",
                "--bind-addr",
                &address,
            ]),
            environment: own,
            readiness: Readiness::Started,
        };
        Ok(Stack { name: CODE_SERVER, prepare: Box::new(|| Ok(())), children: vec![child], takes_directory: true })
    }
}

/// A desktop that people watch and use in the browser.
pub struct Desktop {
    /// Address of its page.
    pub bind: &'static str,
    /// Port of its page, when one is set.
    pub port: Option<u16>,
    /// Its password, 8 bytes at most.
    pub password: Secret,
    /// Where the password's file goes. No snapshot keeps it.
    pub runtime_dir: PathBuf,
    /// The home that its programs have.
    pub home: PathBuf,
}

impl Desktop {
    /// Its programs; an error is a sentence for people.
    pub fn stack(self, environment: &Environment) -> Result<Stack, String> {
        if self.password.reveal().len() > VNC_PASSWORD_MAX_BYTES {
            return Err(format!("The desktop's password is longer than {VNC_PASSWORD_MAX_BYTES} bytes."));
        }
        let mut shown = environment.to_vec();
        shown.push(("DISPLAY".into(), DISPLAY.into()));
        let socket = PathBuf::from("/tmp/.X11-unix/X1");
        let password_file = self.runtime_dir.join("vnc-password");
        let page = format!("{}:{}", self.bind, self.port.unwrap_or(DESKTOP_PORT));
        let (vnc_port, vnc) = (VNC_PORT.to_string(), format!("127.0.0.1:{VNC_PORT}"));
        let child = |name: &'static str, arguments, readiness| -> Result<ChildSpec, String> {
            let program = find(environment, name)?;
            Ok(ChildSpec { name, program, arguments, environment: shown.clone(), readiness })
        };
        let mut watcher = words(["-display", DISPLAY, "-forever", "-shared", "-localhost", "-rfbport", &vnc_port]);
        watcher.extend(["-passwdfile".into(), password_file.clone().into_os_string()]);
        let children = vec![
            child(
                "Xvfb",
                words([DISPLAY, "-screen", "0", "1280x720x24", "-nolisten", "tcp"]),
                Readiness::Socket(socket, UP_WITHIN),
            )?,
            child("fluxbox", Vec::new(), Readiness::Started)?,
            child("x11vnc", watcher, Readiness::Port(VNC_PORT, UP_WITHIN))?,
            child("websockify", words(["--web", PAGE, &page, &vnc]), Readiness::Started)?,
        ];
        let prepare = move || {
            forget_display(Path::new("/tmp"))?;
            // Without it there is a plain black screen, and a window that says so.
            if let Err(error) = set_background(&self.home) {
                tracing::warn!(event = "desktop.no_background", %error);
            }
            write_private(&password_file, self.password.reveal())
        };
        Ok(Stack { name: DESKTOP, prepare: Box::new(prepare), children, takes_directory: false })
    }
}

/// Removes the marks of a display that does not run any more: a snapshot brings them along.
fn forget_display(temporary: &Path) -> std::io::Result<()> {
    let lock = temporary.join(".X1-lock");
    let owner = std::fs::read_to_string(&lock).unwrap_or_default();
    let lives = owner.trim().parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
    if lives {
        return Ok(());
    }
    for path in [lock, temporary.join(".X11-unix/X1")] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// In place of the style's picture.
const BACKGROUND: &[u8] = b"background: solid\nbackground.color: #3b4252\nbackground.pixmap:\n";

/// A background that needs no program for pictures. What people have set stays.
fn set_background(home: &Path) -> std::io::Result<()> {
    let folder = home.join(".fluxbox");
    std::fs::create_dir_all(&folder)?;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(folder.join("overlay"));
    match made {
        Ok(mut file) => file.write_all(BACKGROUND),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A link in its place is not followed: the file is made anew.
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    /// An environment in which these programs are found.
    fn with(programs: &[&str]) -> (tempfile::TempDir, Vec<(OsString, OsString)>) {
        let folder = tempfile::tempdir().expect("a folder");
        for program in programs {
            let path = folder.path().join(program);
            std::fs::write(&path, "#!/bin/sh\n").expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        }
        let environment = vec![("PATH".into(), folder.path().as_os_str().to_owned())];
        (folder, environment)
    }

    fn desktop(password: &str, runtime_dir: &Path) -> Desktop {
        let password = Secret::new(password.to_owned());
        let home = runtime_dir.join("home");
        Desktop { bind: "0.0.0.0", port: None, password, runtime_dir: runtime_dir.to_owned(), home }
    }

    #[test]
    fn services_are_what_the_table_says() {
        let (folder, environment) = with(&["code-server", "Xvfb", "fluxbox", "x11vnc", "websockify"]);
        let code_server =
            CodeServer { bind: "127.0.0.1", port: Some(9000), password: Secret::new("secret".to_owned()) };
        let stacks = [
            code_server.stack(&environment).expect("installed"),
            desktop("secret", folder.path()).stack(&environment).expect("installed"),
        ];
        let table: Vec<(&str, String, Readiness)> = stacks
            .iter()
            .flat_map(|stack| &stack.children)
            .map(|child| {
                let words: Vec<_> = child.arguments.iter().map(|word| word.to_string_lossy()).collect();
                let words = words.join(" ").replace(&folder.path().display().to_string(), "RUN");
                (child.name, words, child.readiness.clone())
            })
            .collect();
        let socket = Readiness::Socket("/tmp/.X11-unix/X1".into(), UP_WITHIN);
        let expected = [
            (
                "code-server",
                "--auth password --disable-telemetry --disable-update-check --disable-workspace-trust --disable-proxy \
                 --bind-addr 127.0.0.1:9000",
                Readiness::Started,
            ),
            ("Xvfb", ":1 -screen 0 1280x720x24 -nolisten tcp", socket),
            ("fluxbox", "", Readiness::Started),
            (
                "x11vnc",
                "-display :1 -forever -shared -localhost -rfbport 5900 -passwdfile RUN/vnc-password",
                Readiness::Port(5900, UP_WITHIN),
            ),
            ("websockify", "--web /usr/share/novnc 0.0.0.0:6080 127.0.0.1:5900", Readiness::Started),
        ];
        assert_eq!(table, expected.map(|(name, words, readiness)| (name, words.to_owned(), readiness)));
        assert_eq!([stacks[0].takes_directory, stacks[1].takes_directory], [true, false]);
        // The password is in code-server's environment, and in no command line.
        let of = |stack: &Stack, name: &str| {
            let all = stack.children.iter().flat_map(|child| &child.environment);
            all.filter(|(variable, _)| variable == name).count()
        };
        assert_eq!((of(&stacks[0], "PASSWORD"), of(&stacks[1], "PASSWORD"), of(&stacks[1], "DISPLAY")), (1, 0, 4));
        assert!(table.iter().all(|(_, words, _)| !words.contains("secret")));
        (stacks[1].prepare)().expect("prepared");
        let file = folder.path().join("vnc-password");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "secret");
        assert_eq!(std::fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
        let background = folder.path().join("home/.fluxbox/overlay");
        assert!(std::fs::read_to_string(&background).expect("there").contains("background: solid"));
        std::fs::write(&background, "theirs").expect("written");
        set_background(&folder.path().join("home")).expect("left");
        assert_eq!(std::fs::read_to_string(&background).expect("there"), "theirs");
    }

    #[test]
    fn what_is_not_installed_or_cannot_be_is_told_in_a_sentence() {
        let (folder, environment) = with(&["Xvfb", "fluxbox", "websockify"]);
        let missing = desktop("secret", folder.path()).stack(&environment).err();
        assert_eq!(missing.as_deref(), Some("`x11vnc` is not installed in this sandbox."));
        let long = desktop("ninebytes", folder.path()).stack(&environment).err();
        assert!(long.is_some_and(|sentence| sentence.contains("longer than 8 bytes")));
    }

    #[test]
    fn a_display_is_forgotten_unless_it_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(".X11-unix")).expect("made");
        let (lock, socket) = (folder.path().join(".X1-lock"), folder.path().join(".X11-unix/X1"));
        for (owner, stays) in [(std::process::id(), true), (u32::MAX, false)] {
            std::fs::write(&lock, format!("{owner:>10}\n")).expect("written");
            std::fs::write(&socket, "").expect("written");
            forget_display(folder.path()).expect("looked");
            assert_eq!((lock.exists(), socket.exists()), (stays, stays), "{owner}");
        }
        forget_display(folder.path()).expect("nothing is there");
    }
}
