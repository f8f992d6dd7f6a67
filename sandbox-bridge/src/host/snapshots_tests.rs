//! What is kept, put back, expired and lost.

use super::*;

fn open(state: &Path, max_snapshots: usize) -> Arc<Snapshots> {
    let options = SnapshotOptions { max_snapshots, max_snapshots_mib: 100 };
    Arc::new(Snapshots::open(state, options, 64 << 20).expect("opens"))
}

fn subject(state: &Path, session_id: &str) -> Subject {
    let folder = state.join("sandbox");
    for name in ["workspace", "home", "tmp", "run"] {
        std::fs::create_dir_all(folder.join(name)).expect("made");
        std::fs::write(folder.join(name).join("file"), format!("{name} of {session_id}")).expect("written");
    }
    let sandbox_id = format!("sb-{session_id}");
    Subject { sandbox_id, session_id: session_id.to_owned(), build_id: None, folder, process: None }
}

#[tokio::test]
async fn files_are_kept_and_put_back_and_the_journal_is_not_among_them() {
    let state = tempfile::tempdir().expect("a folder");
    let store = open(state.path(), 10);
    let (taken, new) = store.take(subject(state.path(), "s"), "s-1".to_owned()).await.expect("taken");
    assert!(new && taken.bytes > 0);
    let (again, new) = store.take(subject(state.path(), "s"), "s-1".to_owned()).await.expect("found");
    assert_eq!((again, new), (taken.clone(), false), "the label finds it");
    let other = state.path().join("other");
    std::fs::create_dir_all(other.join("workspace/old")).expect("made");
    let store = open(state.path(), 10);
    store.put_back(&taken.image_id, other.clone()).await.expect("put back");
    assert_eq!(std::fs::read_to_string(other.join("home/file")).expect("there"), "home of s");
    assert!(!other.join("workspace/old").exists() && !other.join("run").exists());
    assert!(!state.path().join("snapshots").join(&taken.image_id).join("run").exists());
    assert_eq!(
        (store.delete(&taken.image_id).await.expect("deleted"), store.delete(&taken.image_id).await.expect("gone")),
        (true, false)
    );
    for unknown in [taken.image_id.as_str(), "..", "../sandbox", ""] {
        assert!(matches!(store.put_back(unknown, other.clone()).await, Err(SnapshotError::Unknown(_))), "{unknown}");
        assert!(!store.delete(unknown).await.expect("nothing to do"));
    }
    assert!(other.join("home/file").exists());
}

#[tokio::test]
async fn what_a_crash_left_half_made_or_half_deleted_is_gone_at_the_next_start() {
    let state = tempfile::tempdir().expect("a folder");
    let (taken, _) = open(state.path(), 10).take(subject(state.path(), "s"), "a".to_owned()).await.expect("taken");
    let root = state.path().join("snapshots");
    std::fs::create_dir_all(root.join(".new-img-1/workspace")).expect("made");
    // One that was being deleted still has its description.
    std::fs::create_dir_all(root.join(".gone-img-2")).expect("made");
    std::fs::copy(root.join(&taken.image_id).join(DESCRIPTION), root.join(".gone-img-2").join(DESCRIPTION))
        .expect("copied");
    std::fs::create_dir_all(root.join("img-3/workspace")).expect("made");
    let store = open(state.path(), 10);
    assert_eq!(store.list(None, 10, None).snapshots, std::slice::from_ref(&taken));
    let left: Vec<_> = std::fs::read_dir(&root).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from(&taken.image_id)]);
}

#[tokio::test]
async fn what_the_machine_may_have_lost_when_it_went_down_does_not_count() {
    let state = tempfile::tempdir().expect("a folder");
    let store = open(state.path(), 10);
    let mut taken = Vec::new();
    for label in ["a", "b"] {
        taken.push(store.take(subject(state.path(), "s"), label.to_owned()).await.expect("taken").0.image_id);
    }
    let in_folder = |image: &str, name: &str| state.path().join("snapshots").join(image).join(name);
    for image in &taken {
        while !in_folder(image, DURABLE).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // As after another start of the machine.
        std::fs::write(in_folder(image, MADE_IN), "another start").expect("written");
    }
    std::fs::remove_file(in_folder(&taken[1], DURABLE)).expect("removed");
    let known: Vec<String> =
        open(state.path(), 10).list(None, 10, None).snapshots.into_iter().map(|s| s.image_id).collect();
    assert_eq!(known, taken[..1]);
}

#[tokio::test]
async fn a_copy_that_fails_leaves_nothing() {
    let state = tempfile::tempdir().expect("a folder");
    let store = open(state.path(), 10);
    let mut subject = subject(state.path(), "s");
    std::fs::remove_dir_all(subject.folder.join("tmp")).expect("removed");
    assert!(store.take(subject.clone(), "a".to_owned()).await.is_err());
    subject.folder = state.path().join("nowhere");
    assert!(store.take(subject, "b".to_owned()).await.is_err());
    assert_eq!(std::fs::read_dir(state.path().join("snapshots")).expect("read").count(), 0);
}

#[tokio::test]
async fn a_copy_has_one_budget_for_all_that_is_kept() {
    let state = tempfile::tempdir().expect("a folder");
    let subject = subject(state.path(), "s");
    for name in KEPT {
        std::fs::write(subject.folder.join(name).join("large"), vec![1; 1 << 20]).expect("written");
    }
    let (taken, _) = open(state.path(), 10).take(subject.clone(), "a".to_owned()).await.expect("taken");
    let options = SnapshotOptions { max_snapshots: 10, max_snapshots_mib: 100 };
    let store = Arc::new(Snapshots::open(state.path(), options, 2 << 20).expect("opens"));
    let too_large = |result| matches!(result, Err(SnapshotError::Copy(CopyError::TooLarge(2))));
    assert!(too_large(store.take(subject, "b".to_owned()).await.map(drop)));
    let other = state.path().join("other");
    std::fs::create_dir(&other).expect("made");
    assert!(too_large(store.put_back(&taken.image_id, other).await));
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_that_its_session_does_not_need_goes() {
    let state = tempfile::tempdir().expect("a folder");
    let store = open(state.path(), 3);
    let build = Subject { build_id: Some("b".to_owned()), ..subject(state.path(), "") };
    store.take(build, "build".to_owned()).await.expect("taken");
    for (session, label) in [("a", "a-1"), ("b", "b-1"), ("b", "b-2"), ("c", "c-1")] {
        store.take(subject(state.path(), session), label.to_owned()).await.expect("taken");
        // Their times differ.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let labels: Vec<String> = store.list(None, 10, None).snapshots.into_iter().map(|s| s.label).collect();
    assert_eq!(labels, ["build", "b-2", "c-1"]);
    let first = store.list(None, 2, None);
    let second = store.list(None, 2, first.next_cursor.as_deref());
    assert_eq!((first.snapshots.len(), second.snapshots.len(), second.next_cursor), (2, 1, None));
}
