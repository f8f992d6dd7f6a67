//! One line a step, with its duration, on standard error. Standard output belongs to the programs we run.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Steps faster than this that changed nothing are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_millis(1500);

pub fn say(line: impl Display) {
    let mut err = std::io::stderr().lock();
    // A closed terminal is no reason to stop a build.
    let _ = writeln!(err, "{line}");
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Everything was there already.
    Cached,
}

/// Runs a step and says how long it took. The name is a plain present participle: "Installing wrangler".
pub fn step<E>(name: &str, work: impl FnOnce() -> Result<Outcome, E>) -> Result<Outcome, E> {
    let started = Instant::now();
    let result = work();
    let took = started.elapsed();
    match &result {
        Ok(Outcome::Done) => say(format_args!("{} {name} ({})", mark("32", "✓"), human(took))),
        Ok(Outcome::Cached) if took > WORTH_A_LINE => {
            say(format_args!("{} {name} (nothing to do, {})", mark("32", "✓"), human(took)));
        }
        Ok(Outcome::Cached) => {}
        Err(_) => say(format_args!("{} {name} ({})", mark("31", "✗"), human(took))),
    }
    result
}

/// Says that something long begins, so that a silent minute has a reason.
pub fn begins(name: &str, about: &str) {
    say(format_args!("{} {name} ({about})", mark("36", "…")));
}

fn mark(color: &str, sign: &str) -> String {
    if std::io::stderr().is_terminal() { format!("\x1b[{color}m{sign}\x1b[0m") } else { sign.to_owned() }
}

pub fn human(took: Duration) -> String {
    let secs = took.as_secs();
    if secs >= 60 {
        format!("{} min {:02} s", secs / 60, secs % 60)
    } else if secs >= 10 {
        format!("{secs} s")
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_person_would_say_them() {
        assert_eq!(human(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(human(Duration::from_secs(42)), "42 s");
        assert_eq!(human(Duration::from_secs(187)), "3 min 07 s");
    }
}
