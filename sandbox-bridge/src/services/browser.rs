//! The browser of the agent: `agent-browser` is told which one is installed, so that it fetches none of its own.

use std::ffi::OsString;

use super::catalogue::DISPLAY;
use super::child::find;

/// What `agent-browser` reads the browser's path from.
const EXECUTABLE_VARIABLE: &str = "AGENT_BROWSER_EXECUTABLE_PATH";
/// And further arguments for it.
const ARGUMENTS_VARIABLE: &str = "AGENT_BROWSER_ARGS";
/// Names of Chromium, the likeliest first.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// The environment with what the agent's browser needs. What the users have set stays.
pub fn with_browser(mut environment: Vec<(OsString, OsString)>, has_desktop: bool) -> Vec<(OsString, OsString)> {
    let browser = BROWSERS.into_iter().find_map(|name| find(&environment, name).ok());
    let mut more: Vec<(OsString, OsString)> = Vec::new();
    if let Some(browser) = browser {
        more.push((EXECUTABLE_VARIABLE.into(), browser.into_os_string()));
        // A sandbox has no rights to give its browser a sandbox of its own, and no memory to share beside its own.
        more.push((ARGUMENTS_VARIABLE.into(), "--no-sandbox,--disable-dev-shm-usage".into()));
    }
    if has_desktop {
        more.push(("DISPLAY".into(), DISPLAY.into()));
    }
    for (name, value) in more {
        if !environment.iter().any(|(known, _)| *known == name) {
            environment.push((name, value));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'e>(environment: &'e [(OsString, OsString)], name: &str) -> Option<&'e str> {
        environment.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.to_str())
    }

    #[test]
    fn the_browser_that_is_there_is_named_and_what_users_set_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = || ("PATH".into(), folder.path().as_os_str().to_owned());
        let without = with_browser(vec![path()], false);
        assert_eq!((value(&without, EXECUTABLE_VARIABLE), value(&without, "DISPLAY")), (None, None));
        let chromium = folder.path().join("chromium");
        std::fs::write(&chromium, "").expect("written");
        let with = with_browser(vec![path(), (ARGUMENTS_VARIABLE.into(), "--mine".into())], true);
        assert_eq!(value(&with, EXECUTABLE_VARIABLE), chromium.to_str());
        assert_eq!((value(&with, ARGUMENTS_VARIABLE), value(&with, "DISPLAY")), (Some("--mine"), Some(":1")));
    }
}
