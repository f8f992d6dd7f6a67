//! The terminals of a sandbox and who watches them. It knows no socket: what is to be sent is handed back.
//!
//! A terminal has one size, that of whoever last opened it, typed, or resized their page: two who watch together see the
//! same, and the one who works has it fit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oi_protocol::terminal::{Frame, KEPT_OUTPUT_BYTES, TERMINALS_MAX, TerminalCommand, TerminalReport, TerminalSize};
use tokio::sync::mpsc;

use super::shell::{Shell, ShellError, ShellEvent, ShellSettings};
use crate::kept_output::KeptOutput;

/// Something for the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// JSON.
    Report(TerminalReport),
    /// A binary frame.
    Bytes(Vec<u8>),
}

struct Running {
    shell: Shell,
    /// Tells this shell's events from those of an earlier one of the same terminal.
    number: u64,
    kept: KeptOutput,
    /// Viewers that get what it writes.
    shown_to: BTreeSet<u32>,
}

struct Viewer {
    terminal: u8,
    size: TerminalSize,
}

/// All terminals.
pub struct Terminals {
    settings: ShellSettings,
    running: BTreeMap<u8, Running>,
    viewers: BTreeMap<u32, Viewer>,
    events: mpsc::Sender<ShellEvent>,
    next_number: u64,
}

impl Terminals {
    /// None yet. What shells do comes by `events`.
    pub const fn new(settings: ShellSettings, events: mpsc::Sender<ShellEvent>) -> Self {
        Self { settings, running: BTreeMap::new(), viewers: BTreeMap::new(), events, next_number: 1 }
    }

    /// Numbers of those that run.
    pub fn report(&self) -> Sent {
        Sent::Report(TerminalReport::Running { terminals: self.running.keys().copied().collect() })
    }

    /// The object is gone, and with it all who watch. What runs goes on.
    pub fn disconnected(&mut self) {
        self.viewers.clear();
        for running in self.running.values_mut() {
            running.shown_to.clear();
        }
    }

    /// Does what the object asks. A shell that is started works in `directory`.
    pub fn command(&mut self, command: &TerminalCommand, directory: impl FnOnce() -> PathBuf) -> Vec<Sent> {
        match *command {
            TerminalCommand::Watch { viewer, terminal, size } => {
                self.watch(viewer, terminal, size.bounded(), directory)
            }
            TerminalCommand::Resize { viewer, size } => {
                let Some(known) = self.viewers.get_mut(&viewer) else { return Vec::new() };
                known.size = size.bounded();
                self.fit(viewer)
            }
            TerminalCommand::Pause { viewer } => {
                let terminal = self.viewers.get(&viewer).map(|known| known.terminal);
                if let Some(running) = terminal.and_then(|terminal| self.running.get_mut(&terminal)) {
                    running.shown_to.remove(&viewer);
                }
                Vec::new()
            }
            TerminalCommand::Unwatch { viewer } => {
                self.forget(viewer);
                Vec::new()
            }
        }
    }

    fn forget(&mut self, viewer: u32) {
        if let Some(known) = self.viewers.remove(&viewer)
            && let Some(running) = self.running.get_mut(&known.terminal)
        {
            running.shown_to.remove(&viewer);
        }
    }

    fn watch(
        &mut self,
        viewer: u32,
        terminal: u8,
        size: TerminalSize,
        directory: impl FnOnce() -> PathBuf,
    ) -> Vec<Sent> {
        self.forget(viewer);
        let mut sent = Vec::new();
        let refused = |message: String| vec![Sent::Report(TerminalReport::Refused { viewer, message })];
        if terminal >= TERMINALS_MAX {
            return refused(format!("A sandbox has {TERMINALS_MAX} terminals at most."));
        }
        let started = !self.running.contains_key(&terminal);
        if started {
            let number = self.next_number;
            self.next_number += 1;
            match Shell::start(&self.settings, directory(), size, number, self.events.clone()) {
                Ok(shell) => {
                    let kept = KeptOutput::new(KEPT_OUTPUT_BYTES);
                    self.running.insert(terminal, Running { shell, number, kept, shown_to: BTreeSet::new() });
                    sent.push(self.report());
                    tracing::info!(event = "terminal.open", terminal);
                }
                Err(error) => return refused(error.to_string()),
            }
        }
        self.viewers.insert(viewer, Viewer { terminal, size });
        sent.extend(self.fit(viewer));
        if let Some(running) = self.running.get_mut(&terminal) {
            running.shown_to.insert(viewer);
            let size = running.shell.size();
            sent.push(Sent::Report(TerminalReport::Opened { viewer, terminal, size, started }));
            let bytes = &running.kept.picture();
            sent.push(Sent::Bytes(Frame::Picture { terminal, viewer, bytes }.encode()));
        }
        sent
    }

    /// Gives a terminal the size of one of its viewers.
    fn fit(&mut self, viewer: u32) -> Vec<Sent> {
        let Some(&Viewer { terminal, size }) = self.viewers.get(&viewer) else { return Vec::new() };
        let changed = self.running.get_mut(&terminal).is_some_and(|running| running.shell.resize(size));
        changed.then_some(Sent::Report(TerminalReport::Resized { terminal, size })).into_iter().collect()
    }

    /// A viewer types. Only what they watch takes their keys.
    pub fn input(&mut self, viewer: u32, terminal: u8, keys: &[u8]) -> Vec<Sent> {
        if self.viewers.get(&viewer).is_none_or(|known| known.terminal != terminal) {
            return Vec::new();
        }
        let mut sent = self.fit(viewer);
        let typed = self.running.get(&terminal).map_or(Err(ShellError::Ended), |running| running.shell.type_keys(keys));
        if let Err(error) = typed {
            sent.push(Sent::Report(TerminalReport::Refused { viewer, message: error.to_string() }));
        }
        sent
    }

    fn terminal_of(&self, number: u64) -> Option<u8> {
        self.running.iter().find(|(_, running)| running.number == number).map(|(terminal, _)| *terminal)
    }

    /// A shell did something. Output that nobody watches is kept and not sent.
    pub fn shell_event(&mut self, event: ShellEvent) -> Vec<Sent> {
        match event {
            ShellEvent::Output(number, bytes) => {
                let Some(terminal) = self.terminal_of(number) else { return Vec::new() };
                let Some(running) = self.running.get_mut(&terminal) else { return Vec::new() };
                running.kept.push(&bytes);
                if running.shown_to.is_empty() {
                    return Vec::new();
                }
                vec![Sent::Bytes(Frame::Output { terminal, bytes: &bytes }.encode())]
            }
            ShellEvent::Ended(number, code) => {
                let Some(terminal) = self.terminal_of(number) else { return Vec::new() };
                self.running.remove(&terminal);
                self.viewers.retain(|_, viewer| viewer.terminal != terminal);
                tracing::info!(event = "terminal.exit", terminal, code);
                vec![Sent::Report(TerminalReport::Exited { terminal, code }), self.report()]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WIDE: TerminalSize = TerminalSize { cols: 120, rows: 40 };
    const NARROW: TerminalSize = TerminalSize { cols: 46, rows: 20 };

    struct Bench {
        terminals: Terminals,
        events: mpsc::Receiver<ShellEvent>,
    }

    impl Bench {
        fn new() -> Self {
            let (sender, events) = mpsc::channel(8);
            let environment = [("PATH", "/usr/bin:/bin"), ("PS1", "$ "), ("HOME", "/nonexistent")];
            let environment = environment.map(|(name, value)| (name.into(), value.into())).into();
            let settings = ShellSettings { launcher: Vec::new(), environment };
            Self { terminals: Terminals::new(settings, sender), events }
        }

        fn watch(&mut self, viewer: u32, terminal: u8, size: TerminalSize) -> Vec<Sent> {
            self.terminals.command(&TerminalCommand::Watch { viewer, terminal, size }, || "/".into())
        }

        /// Runs until something is sent that fits.
        async fn until(&mut self, what: &str, fits: impl Fn(&Sent) -> bool) -> Sent {
            let wait = async {
                loop {
                    let event = self.events.recv().await.expect("the bench holds a sender");
                    if let Some(found) = self.terminals.shell_event(event).into_iter().find(&fits) {
                        return found;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(8), wait).await.expect(what)
        }

        async fn until_output(&mut self, what: &str) {
            let mut text = String::new();
            let wait = async {
                while !text.contains(what) {
                    let event = self.events.recv().await.expect("the bench holds a sender");
                    for sent in self.terminals.shell_event(event) {
                        if let Sent::Bytes(frame) = sent
                            && let Some(Frame::Output { bytes, .. }) = Frame::decode(&frame)
                        {
                            text.push_str(&String::from_utf8_lossy(bytes));
                        }
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(8), wait).await.expect(what);
        }
    }

    fn picture(sent: &[Sent]) -> Option<(u32, String)> {
        sent.iter().find_map(|sent| match sent {
            Sent::Bytes(frame) => match Frame::decode(frame)? {
                Frame::Picture { viewer, bytes, .. } => Some((viewer, String::from_utf8_lossy(bytes).into_owned())),
                _ => None,
            },
            Sent::Report(_) => None,
        })
    }

    #[tokio::test]
    async fn the_first_who_watches_starts_the_shell_and_the_second_sees_what_there_was() {
        let mut bench = Bench::new();
        assert_eq!(bench.terminals.report(), Sent::Report(TerminalReport::Running { terminals: vec![] }));
        let sent = bench.watch(1, 2, WIDE);
        assert_eq!(sent[0], Sent::Report(TerminalReport::Running { terminals: vec![2] }));
        assert_eq!(sent[1], Sent::Report(TerminalReport::Opened { viewer: 1, terminal: 2, size: WIDE, started: true }));
        bench.terminals.input(1, 2, b"echo so-it-$((40+2))\n");
        bench.until_output("so-it-42").await;
        let sent = bench.watch(2, 2, WIDE);
        assert_eq!(
            sent[0],
            Sent::Report(TerminalReport::Opened { viewer: 2, terminal: 2, size: WIDE, started: false })
        );
        let (viewer, text) = picture(&sent).expect("a picture");
        assert!(viewer == 2 && text.contains("so-it-42"), "{text}");
    }

    #[tokio::test]
    async fn the_size_is_that_of_who_typed_last() {
        let mut bench = Bench::new();
        bench.watch(1, 0, WIDE);
        let resized = |size| Sent::Report(TerminalReport::Resized { terminal: 0, size });
        assert_eq!(bench.watch(2, 0, NARROW)[0], resized(NARROW));
        assert_eq!(bench.terminals.input(1, 0, b"x"), [resized(WIDE)]);
        assert_eq!(bench.terminals.input(1, 0, b"x"), []);
        let grown = TerminalSize { cols: 47, rows: 21 };
        let resize = TerminalCommand::Resize { viewer: 2, size: grown };
        assert_eq!(bench.terminals.command(&resize, || "/".into()), [resized(grown)]);
    }

    #[tokio::test]
    async fn output_that_nobody_watches_is_kept_and_not_sent() {
        let mut bench = Bench::new();
        bench.watch(1, 0, WIDE);
        bench.terminals.input(1, 0, b"read line; echo unseen-$line; touch /proc/self; echo\n");
        bench.terminals.input(1, 0, b"words\n");
        bench.terminals.command(&TerminalCommand::Unwatch { viewer: 1 }, || "/".into());
        // Keys of one who does not watch go nowhere.
        assert_eq!(bench.terminals.input(1, 0, b"exit\n"), []);
        let mut sent = Vec::new();
        let seen = async {
            while !picture(&bench.terminals.command(&watch_again(), || "/".into()))
                .is_some_and(|(_, text)| text.contains("unseen-words"))
            {
                bench.terminals.command(&TerminalCommand::Unwatch { viewer: 1 }, || "/".into());
                let event = bench.events.recv().await.expect("an event");
                sent.extend(bench.terminals.shell_event(event));
            }
        };
        tokio::time::timeout(Duration::from_secs(8), seen).await.expect("it is kept");
        assert_eq!(sent, []);
    }

    #[tokio::test]
    async fn one_who_fell_behind_can_still_stop_what_floods_them() {
        let mut bench = Bench::new();
        bench.watch(1, 0, WIDE);
        bench.terminals.input(1, 0, b"while :; do echo flood; done\n");
        bench.until_output("flood\r\nflood").await;
        bench.terminals.command(&TerminalCommand::Pause { viewer: 1 }, || "/".into());
        let event = bench.events.recv().await.expect("it floods");
        assert_eq!(bench.terminals.shell_event(event), [], "nothing is sent to nobody");
        bench.terminals.input(1, 0, b"\x03");
        bench.terminals.input(1, 0, b"exit 0\n");
        bench.until("the exit", |sent| matches!(sent, Sent::Report(TerminalReport::Exited { .. }))).await;
    }

    fn watch_again() -> TerminalCommand {
        TerminalCommand::Watch { viewer: 1, terminal: 0, size: WIDE }
    }

    #[tokio::test]
    async fn a_shell_that_ended_is_told_and_its_number_opened_anew() {
        let mut bench = Bench::new();
        bench.watch(1, 0, WIDE);
        bench.terminals.input(1, 0, b"exit 3\n");
        let exited = Sent::Report(TerminalReport::Exited { terminal: 0, code: Some(3) });
        bench.until("the exit", |sent| *sent == exited).await;
        assert_eq!(bench.terminals.report(), Sent::Report(TerminalReport::Running { terminals: vec![] }));
        assert_eq!(bench.terminals.input(1, 0, b"ls\n"), []);
        let sent = bench.watch(1, 0, WIDE);
        assert!(sent.contains(&Sent::Report(TerminalReport::Opened {
            viewer: 1,
            terminal: 0,
            size: WIDE,
            started: true
        })));
    }

    #[tokio::test]
    async fn there_are_four_terminals_at_most() {
        let mut bench = Bench::new();
        for terminal in 0..TERMINALS_MAX {
            assert!(picture(&bench.watch(u32::from(terminal), terminal, WIDE)).is_some());
        }
        let sent = bench.watch(9, TERMINALS_MAX, WIDE);
        assert!(matches!(&sent[..], [Sent::Report(TerminalReport::Refused { viewer: 9, .. })]), "{sent:?}");
    }
}
