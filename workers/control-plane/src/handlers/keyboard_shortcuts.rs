//! A person's shortcuts: all of them at once, each with its own keys.

use oi_protocol::settings::{KeyBinding, KeyboardShortcuts};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::settings_request::{canonical_user, stale, write};
use crate::request::Cx;
use crate::store::{Database, keyboard_shortcuts as store};

const SHAPE: &str = "Invalid keyboard shortcuts";
/// Keys that are held beside others.
const MODIFIERS: [&str; 9] = [
    "ShiftLeft",
    "ShiftRight",
    "ControlLeft",
    "ControlRight",
    "AltLeft",
    "AltRight",
    "MetaLeft",
    "MetaRight",
    "CapsLock",
];

fn binding(code: &str, shift: bool) -> KeyBinding {
    KeyBinding { code: code.to_owned(), primary: true, alt: false, shift }
}

/// What holds until a person sets something else.
fn defaults() -> KeyboardShortcuts {
    KeyboardShortcuts {
        send_prompt: binding("Enter", false),
        open_command_menu: binding("KeyK", false),
        new_session: binding("KeyO", true),
        toggle_sidebar: binding("Slash", false),
    }
}

fn check(shortcuts: &KeyboardShortcuts) -> Result<(), Refusal> {
    let all = [&shortcuts.send_prompt, &shortcuts.open_command_menu, &shortcuts.new_session, &shortcuts.toggle_sidebar];
    for (at, binding) in all.iter().enumerate() {
        let code = &binding.code;
        let plain = code.len() <= 64
            && code.starts_with(|first: char| first.is_ascii_alphabetic())
            && code.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || MODIFIERS.contains(&code.as_str()) {
            return Err(Refusal::invalid_body("A shortcut's code must be a key's code, and not that of a modifier"));
        }
        if !binding.primary && !binding.alt {
            return Err(Refusal::invalid_body("A shortcut needs the primary modifier or Alt"));
        }
        if all[at + 1..].contains(binding) {
            return Err(Refusal::invalid_body("Two shortcuts must not have the same keys"));
        }
    }
    Ok(())
}

/// As they are stored: a version of the form, and all four.
#[derive(Deserialize)]
struct Stored {
    version: u32,
    shortcuts: KeyboardShortcuts,
}

/// What is stored, as far as it still holds. What does not is as if nothing were set.
fn read(text: &str) -> Option<KeyboardShortcuts> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    (stored.version == 1 && check(&stored.shortcuts).is_ok()).then_some(stored.shortcuts)
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let user = canonical_user(cx).await?;
    let stored = store::get(&cx.db()?, &user).await?;
    let version = stored.as_ref().map_or(0, |stored| stored.version);
    let shortcuts = stored.map(|stored| {
        read(&stored.shortcuts).unwrap_or_else(|| {
            Line::warn("control-plane", "shortcuts.unreadable").trace(cx.trace).write();
            defaults()
        })
    });
    reply::json(200, &json!({"shortcuts": shortcuts.unwrap_or_else(defaults), "version": version}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    shortcuts: KeyboardShortcuts,
    #[serde(default)]
    version: Option<u32>,
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    let wanted: Wanted = request_body::parse(&cx.body, SHAPE)?;
    check(&wanted.shortcuts)?;
    let (db, user) = (cx.db()?, canonical_user(cx).await?);
    let text = write(&json!({"version": 1, "shortcuts": wanted.shortcuts}))?;
    let change = store::put(&user, &text, wanted.version.map(i64::from), clock::now());
    if db.batch(vec![change]).await?.first() == Some(&0) {
        return Err(stale("Keyboard shortcuts").into());
    }
    let version = store::get(&db, &user).await?.map_or(0, |stored| stored.version);
    reply::json(200, &json!({"shortcuts": wanted.shortcuts, "version": version}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcuts_are_keys_with_a_modifier_and_none_is_there_twice() {
        assert_eq!(check(&defaults()), Ok(()));
        let with = |binding: KeyBinding| check(&KeyboardShortcuts { send_prompt: binding, ..defaults() }).is_ok();
        let key = |code: &str, primary, alt| KeyBinding { code: code.to_owned(), primary, alt, shift: false };
        assert!(with(key("KeyP", false, true)));
        assert!(!with(key("KeyP", false, false)), "no modifier");
        assert!(!with(key("KeyK", true, false)), "another one's");
        for bad in ["", "1Key", "Key-P", "ShiftLeft", &"a".repeat(65)] {
            assert!(!with(key(bad, true, false)), "{bad}");
        }
    }

    #[test]
    fn what_is_stored_and_holds_no_more_is_as_if_nothing_were_set() {
        let text = json!({"version": 1, "shortcuts": defaults()}).to_string();
        assert_eq!(read(&text), Some(defaults()));
        for broken in ["{", r#"{"version":2,"shortcuts":{}}"#, &text.replace("KeyK", "ShiftLeft")] {
            assert_eq!(read(broken), None, "{broken}");
        }
        assert!(text.contains("\"open-command-menu\""), "{text}");
    }
}
