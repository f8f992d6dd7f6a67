use futures_executor::block_on;
use oi_protocol::environments::Environment;

use super::cleanup;
use super::finalization::{self, Completion, LEASE_MS};
use super::scopes;
use super::*;
use crate::source_control::RepositoryName;
use crate::store::audit_log::tests::{about_a, told};
use crate::store::environments::{self, tests::environment};
use crate::store::native::Native;
use crate::store::secrets::{self, SecretScope, Write};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

pub fn app() -> ScopeKey {
    ScopeKey { kind: "repo", id: "acme/app".to_owned() }
}

fn new<'a>(id: &'a str, scope: &'a ScopeKey) -> NewBuild<'a> {
    NewBuild {
        id,
        scope,
        repo_id: (scope.kind == "repo").then_some(7),
        provider: "modal",
        fingerprint: "f1",
        token_hash: "hash",
        token_expires_at: NOW.plus(7_200_000),
    }
}

fn add(db: &Native, id: &str, scope: &ScopeKey, at: i64) {
    assert_eq!(block_on(register(db, &new(id, scope), false, NOW.plus(at))), Ok(true), "{id}");
}

fn status(db: &Native, id: &str) -> String {
    block_on(get(db, id)).expect("runs").expect("is there").status
}

fn tell(db: &Native, id: &str) {
    let told = Completion { id, hash: "c", repository_shas: "[]", runtime_version: "v61", duration_seconds: 1.5 };
    assert_eq!(block_on(finalization::accept(db, &told, NOW)), Ok(true));
}

/// Through its whole life to `ready`.
pub fn make_ready(db: &Native, id: &str, scope: &ScopeKey, at: i64) {
    add(db, id, scope, at);
    assert_eq!(block_on(bind(db, id, &format!("machine of {id}"), NOW)), Ok(true));
    tell(db, id);
    assert!(block_on(finalization::claim(db, id, "lease", NOW)).expect("runs").is_some());
    assert_eq!(block_on(finalization::record_image(db, id, "lease", &format!("image of {id}"), NOW)), Ok(true));
    assert_eq!(block_on(finalization::ready(db, id, "lease", NOW)), Ok(true));
}

#[test]
fn of_builds_of_one_scope_one_goes_on_at_a_time() {
    let db = Native::new();
    add(&db, "a", &app(), 0);
    assert_eq!(block_on(register(&db, &new("b", &app()), false, NOW)), Ok(false));
    let scope = app();
    let elsewhere = NewBuild { provider: "vercel", ..new("c", &scope) };
    assert_eq!(block_on(register(&db, &elsewhere, false, NOW)), Ok(true), "another backend is another matter");
    let other = ScopeKey { id: "acme/lib".to_owned(), ..app() };
    add(&db, "d", &other, 0);
    assert_eq!(block_on(active(&db, &app(), "modal")).expect("runs").map(|build| build.id).as_deref(), Some("a"));
    assert_eq!(block_on(fail(&db, "a", "no", NOW)), Ok(true));
    add(&db, "b", &app(), 1);
}

#[test]
fn an_image_that_is_ready_is_built_again_only_when_it_is_asked_for() {
    let db = Native::new();
    make_ready(&db, "a", &app(), 0);
    assert_eq!(block_on(register(&db, &new("b", &app()), true, NOW)), Ok(false));
    let scope = app();
    let other = NewBuild { fingerprint: "f2", ..new("b", &scope) };
    assert_eq!(block_on(register(&db, &other, true, NOW)), Ok(true), "of other branches it is another");
}

#[test]
fn the_newest_image_is_the_one_and_those_before_it_end() {
    let db = Native::new();
    make_ready(&db, "a", &app(), 0);
    let other = ScopeKey { id: "acme/lib".to_owned(), ..app() };
    make_ready(&db, "other", &other, 0);
    make_ready(&db, "b", &app(), 10);
    assert_eq!((status(&db, "a").as_str(), status(&db, "b").as_str()), ("superseded", "ready"));
    assert_eq!(status(&db, "other"), "ready");
    // One that began earlier and is done later is of older commits.
    add(&db, "c", &app(), 5);
    tell(&db, "c");
    assert!(block_on(finalization::claim(&db, "c", "l", NOW)).expect("runs").is_some());
    assert_eq!(block_on(finalization::record_image(&db, "c", "l", "image", NOW)), Ok(true));
    assert_eq!(block_on(finalization::ready(&db, "c", "l", NOW)), Ok(true));
    assert_eq!((status(&db, "b").as_str(), status(&db, "c").as_str()), ("ready", "superseded"));
    let latest = block_on(latest_ready(&db, &app(), "modal")).expect("runs").expect("there is one");
    assert_eq!(latest.provider_image_id.as_deref(), Some("image of b"));
}

#[test]
fn a_build_is_told_done_once_and_in_time() {
    let db = Native::new();
    add(&db, "a", &app(), 0);
    tell(&db, "a");
    let again = Completion { id: "a", hash: "d", repository_shas: "[]", runtime_version: "v61", duration_seconds: 1.0 };
    assert_eq!(block_on(finalization::accept(&db, &again, NOW)), Ok(false));
    assert_eq!(block_on(finalization::accept_failure(&db, "a", "d", "no", NOW)), Ok(false));
    let other = ScopeKey { id: "acme/lib".to_owned(), ..app() };
    add(&db, "b", &other, 0);
    let late = Completion { id: "b", ..again };
    assert_eq!(block_on(finalization::accept(&db, &late, NOW.plus(7_200_000))), Ok(false), "the token has ended");
    assert_eq!(status(&db, "b"), "building");
}

#[test]
fn one_finishes_a_build_and_nobody_after_who_may_have_made_its_image() {
    let db = Native::new();
    add(&db, "a", &app(), 0);
    let claim = |lease: &str, at: i64| block_on(finalization::claim(&db, "a", lease, NOW.plus(at))).expect("runs");
    assert_eq!(claim("early", 0), None, "nothing was told yet");
    tell(&db, "a");
    assert!(claim("one", 0).is_some());
    assert_eq!(claim("two", 1), None);
    block_on(finalization::release(&db, "a", "two")).expect("runs");
    assert_eq!(claim("two", 2), None, "only who has it gives it back");
    block_on(finalization::release(&db, "a", "one")).expect("runs");
    assert!(claim("two", 3).is_some());
    assert_eq!(claim("three", LEASE_MS + 3), None, "that one may have made an image that nobody heard of");
    assert_eq!(block_on(finalization::record_image(&db, "a", "one", "image", NOW)), Ok(false));
    assert_eq!(block_on(finalization::record_image(&db, "a", "two", "image", NOW)), Ok(true));
    assert_eq!(block_on(finalization::record_image(&db, "a", "two", "other", NOW)), Ok(false));
    assert!(claim("three", LEASE_MS + 3).is_some(), "what is left to do is only our own");
    assert_eq!(block_on(finalization::ready(&db, "a", "two", NOW)), Ok(false));
    assert_eq!(block_on(finalization::ready(&db, "a", "three", NOW)), Ok(true));
}

#[test]
fn a_scope_waits_longer_after_each_failure_and_not_after_a_success() {
    let db = Native::new();
    let mut waits = Vec::new();
    for number in 0..9 {
        let id = format!("b{number}");
        add(&db, &id, &app(), number);
        assert_eq!(block_on(fail(&db, &id, "it broke", NOW)), Ok(true));
        assert_eq!(block_on(fail(&db, &id, "again", NOW)), Ok(false), "a failure counts once");
        let noted = block_on(failures(&db, &app(), "modal")).expect("runs").expect("failures");
        assert_eq!(noted.failures, number + 1);
        waits.push((noted.retry_at - NOW.0) / 60_000);
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1_440, 1_440, 1_440]);
    make_ready(&db, "good", &app(), 20);
    assert_eq!(block_on(failures(&db, &app(), "modal")), Ok(None));
    assert_eq!(block_on(restore_failed(&db, "good", "no sandbox", NOW)), Ok(true));
    assert!(block_on(failures(&db, &app(), "modal")).expect("runs").is_some(), "one that does not boot is a failure");
    block_on(forget_failures(&db, &app())).expect("runs");
    assert_eq!(block_on(failures(&db, &app(), "modal")), Ok(None));
}

fn set_secret(db: &Native, scope: &SecretScope) {
    let keys = oi_worker_kit::key_ring::KeyRing::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", []);
    let name = oi_protocol::secrets::SecretName::parse("KEY").expect("a name");
    let mark = format!("{}{}", scope.kind(), block_on(secrets::version(db, scope)).expect("runs"));
    let write = Write { mark: &mark, expected: None, now: NOW };
    let values = [(name, "value".to_owned())];
    block_on(secrets::put(db, &keys.expect("a key"), scope, &values, write, &about_a("secret.set"))).expect("fits");
}

fn prebuilt(db: &Native, byte: u8) -> (Environment, ScopeKey) {
    let environment = Environment { prebuild_enabled: true, ..environment(byte) };
    assert_eq!(block_on(environments::insert(db, &environment, "m", &about_a("environment.create"))), Ok(true));
    let key = ScopeKey { kind: "environment", id: environment.id.as_str().to_owned() };
    (environment, key)
}

#[test]
fn a_changed_secret_ends_every_image_that_it_went_into() {
    let db = Native::new();
    let (environment, of_environment) = prebuilt(&db, 1);
    let other = ScopeKey { id: "acme/lib".to_owned(), ..app() };
    make_ready(&db, "environment", &of_environment, 0);
    make_ready(&db, "app", &app(), 0);
    add(&db, "app building", &app(), 1);
    let lib = NewBuild { repo_id: Some(8), ..new("lib", &other) };
    assert_eq!(block_on(register(&db, &lib, false, NOW)), Ok(true));
    let all = || ["environment", "app", "app building", "lib"].map(|id| status(&db, id));
    set_secret(&db, &SecretScope::Repository(7));
    assert_eq!(all(), ["ready", "superseded", "superseded", "building"]);
    set_secret(&db, &SecretScope::Environment(environment.id));
    assert_eq!(all(), ["superseded", "superseded", "superseded", "building"]);
    set_secret(&db, &SecretScope::Global);
    assert_eq!(all(), ["superseded", "superseded", "superseded", "superseded"]);
    assert_eq!(block_on(bind(&db, "lib", "machine", NOW)), Ok(false), "its machine is noted, and it does not go on");
    let machines = block_on(cleanup::with_machines(&db, 10, NOW)).expect("runs");
    assert!(machines.iter().any(|build| build.provider_session_id.as_deref() == Some("machine")));
    assert_eq!(block_on(failures(&db, &app(), "modal")), Ok(None), "and nobody is to blame");
}

#[test]
fn an_environment_that_is_gone_or_switched_off_has_no_images() {
    let db = Native::new();
    let ((first, one), (second, two)) = (prebuilt(&db, 1), prebuilt(&db, 2));
    make_ready(&db, "one", &one, 0);
    make_ready(&db, "two", &two, 0);
    let renamed = Environment { name: "Other".to_owned(), version: 2, ..first.clone() };
    block_on(environments::update(&db, &renamed, "u1", &about_a("environment.update"))).expect("runs");
    assert_eq!(status(&db, "one"), "ready");
    assert_eq!(block_on(scopes::environments(&db, 10)).expect("runs").len(), 2);
    let off = Environment { prebuild_enabled: false, version: 3, ..renamed };
    block_on(environments::update(&db, &off, "u2", &about_a("environment.update"))).expect("runs");
    assert_eq!(block_on(environments::delete(&db, &second.id, None, NOW, &about_a("environment.delete"))), Ok(true));
    assert_eq!((status(&db, "one").as_str(), status(&db, "two").as_str()), ("superseded", "superseded"));
    assert_eq!(block_on(scopes::environments(&db, 10)), Ok(vec![]));
}

#[test]
fn a_repository_is_switched_on_and_off_and_the_log_tells_each_change_once() {
    let db = Native::new();
    let name = RepositoryName::parse("Acme", "App").expect("a name");
    let set = |enabled: bool, action: &'static str| {
        block_on(scopes::set_enabled(&db, &name, enabled, NOW, &about_a(action))).expect("runs");
    };
    for _ in 0..2 {
        set(true, "image_builds.enable");
        assert_eq!(block_on(scopes::is_enabled(&db, &name)), Ok(true));
    }
    make_ready(&db, "a", &app(), 0);
    let listed = block_on(scopes::repositories(&db, None, 10)).expect("runs");
    assert_eq!(listed, [scopes::EnabledRepository { repo_owner: "acme".to_owned(), repo_name: "app".to_owned() }]);
    assert_eq!(block_on(scopes::repositories(&db, Some(("acme", "app")), 10)), Ok(vec![]));
    for _ in 0..2 {
        set(false, "image_builds.disable");
        assert_eq!(block_on(scopes::is_enabled(&db, &name)), Ok(false));
    }
    assert_eq!(status(&db, "a"), "superseded");
    assert_eq!(told(&db), ["image_builds.enable A", "image_builds.disable A"]);
}

#[test]
fn what_could_not_be_deleted_is_kept_in_mind_and_a_row_goes_only_with_all_of_it() {
    let db = Native::new();
    make_ready(&db, "a", &app(), 0);
    make_ready(&db, "b", &app(), 1);
    let image = |now: UnixMillis| block_on(cleanup::with_images(&db, 10, now)).expect("runs");
    assert_eq!(image(NOW)[0].provider_image_id.as_deref(), Some("image of a"));
    for (attempt, minutes) in [10_i64, 20, 40].into_iter().enumerate() {
        block_on(cleanup::not_yet(&db, "a", NOW)).expect("runs");
        assert_eq!(image(NOW.plus(minutes * 60_000 - 1)), [], "attempt {attempt}");
        assert_eq!(image(NOW.plus(minutes * 60_000)).len(), 1, "attempt {attempt}");
    }
    let forget = || block_on(cleanup::forget(&db, NOW.plus(86_400_000), 10));
    assert_eq!(forget(), Ok(0), "its image and its machine are still there");
    block_on(cleanup::image_gone(&db, "a", "image of a")).expect("runs");
    assert_eq!(forget(), Ok(0), "its machine is");
    block_on(cleanup::machine_gone(&db, "a")).expect("runs");
    assert_eq!(forget(), Ok(1));
    assert_eq!(status(&db, "b"), "ready");
    block_on(cleanup::image_gone(&db, "b", "image of b")).expect("runs");
    assert!(block_on(latest_ready(&db, &app(), "modal")).expect("runs").is_some(), "one that is used stays");
}

#[test]
fn what_is_known_of_many_scopes_is_of_each_and_in_their_order() {
    let db = Native::new();
    let scopes = ["ready", "none", "building", "failed", "older", "both"]
        .map(|name| ScopeKey { id: format!("acme/{name}"), ..app() });
    let [ready, _, building, failed, older, both] = &scopes;
    make_ready(&db, "of ready", ready, 0);
    add(&db, "of building", building, 0);
    add(&db, "of failed", failed, 0);
    assert_eq!(block_on(fail(&db, "of failed", "no", NOW)), Ok(true));
    make_ready(&db, "of older", older, 0);
    make_ready(&db, "of older, again", older, 1);
    make_ready(&db, "of both", both, 0);
    add(&db, "of both, again", both, 1);
    let of_environment = ScopeKey { kind: "environment", id: ready.id.clone() };
    make_ready(&db, "of another kind", &of_environment, 2);
    let known = |provider: &str, at: UnixMillis| {
        let known = block_on(outlooks(&db, &scopes, provider, at)).expect("runs");
        known.into_iter().map(|known| (known.waits, known.ready.map(|ready| ready.runtime_version)))
    };
    let image = Some("v61".to_owned());
    let (yes, no) = ((false, image.clone()), (false, None));
    let expected = [yes.clone(), no.clone(), (true, None), (true, None), yes.clone(), (true, image)];
    assert_eq!(known("modal", NOW).collect::<Vec<_>>(), expected);
    assert!(known("vercel", NOW).all(|known| known == no), "each backend has its own");
    assert_eq!(known("modal", NOW.plus(30 * 60_000)).nth(3), Some(no), "it was waited for");
    block_on(db.change("UPDATE image_builds SET runtime_version = id WHERE status = 'ready'", vec![])).expect("runs");
    assert_eq!(known("modal", NOW).nth(4), Some((false, Some("of older, again".to_owned()))));
    assert_eq!(block_on(outlooks(&db, &[], "modal", NOW)), Ok(vec![]));
}

#[test]
fn pages_have_each_build_once_newest_first() {
    let db = Native::new();
    for number in 0..5 {
        let id = format!("b{number}");
        add(&db, &id, &app(), number / 2);
        block_on(fail(&db, &id, "no", NOW)).expect("runs");
    }
    for scope in [None, Some(app())] {
        let (mut seen, mut after): (Vec<String>, Option<(i64, String)>) = (Vec::new(), None);
        loop {
            let from = after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let some = block_on(page(&db, scope.as_ref(), "modal", from, 2)).expect("runs");
            after = some.last().map(|last| (last.created_at, last.id.clone()));
            seen.extend(some.into_iter().map(|row| row.id));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["b4", "b3", "b2", "b1", "b0"]);
    }
    assert_eq!(block_on(page(&db, None, "vercel", None, 9)), Ok(vec![]));
}

#[test]
fn no_query_walks_all_builds() {
    let db = Native::new();
    add(&db, "a", &app(), 0);
    db.plans();
    block_on(async {
        let _ = (active(&db, &app(), "modal").await, latest_ready(&db, &app(), "modal").await);
        let _ = (page(&db, None, "modal", None, 9).await, page(&db, Some(&app()), "modal", None, 9).await);
        let _ = (finalization::left_behind(&db, 9, NOW).await, cleanup::stale(&db, NOW, 9).await);
        let _ = (cleanup::with_machines(&db, 9, NOW).await, cleanup::with_images(&db, 9, NOW).await);
        let _ = (scopes::environments(&db, 9).await, scopes::repositories(&db, None, 9).await);
        let _ = outlooks(&db, &[app()], "modal", NOW).await.expect("runs");
    });
    for step in db.plans() {
        // The list of scopes itself, which is no table.
        let scans = step.starts_with("SCAN") && !step.contains("USING") && step != "SCAN wanted VIRTUAL TABLE INDEX 1:";
        assert!(!scans && !step.contains("TEMP B-TREE"), "{step}");
    }
}
