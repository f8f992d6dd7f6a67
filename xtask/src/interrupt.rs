//! Ctrl-C and SIGTERM, seen by every waiting loop. Children run in process groups of their own, so the terminal's
//! Ctrl-C reaches only us and we stop them in order.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// How often a waiting loop looks.
pub const TICK: Duration = Duration::from_millis(100);

/// Call once, before the first child. A second Ctrl-C ends us at once; the children then get SIGTERM from the kernel.
pub fn listen() -> io::Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(requested))?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(requested))?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub fn requested() -> bool {
    REQUESTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Sleeps, but not past a request to stop. False when there was one.
pub fn sleep(duration: Duration) -> bool {
    let until = Instant::now() + duration;
    loop {
        if requested() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(TICK));
    }
}
