use std::path::PathBuf;

use super::*;

const WARNED: SyncPlan = SyncPlan { is_fatal: false, moves_head: false, takes_baseline: false, marks_baseline: false };

fn git() -> Git {
    let own = ["PATH", "HOME"].map(|name| (name.into(), std::env::var_os(name).unwrap_or_default()));
    Git::new(own.to_vec())
}

fn repository(name: &str, address: &str) -> CheckoutRepository {
    CheckoutRepository {
        position: 0,
        repo_owner: "acme".to_owned(),
        repo_name: name.to_owned(),
        branch: "main".to_owned(),
        clone_url: address.to_owned(),
        base_sha: None,
    }
}

/// Processes that work in a folder.
fn working_in(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.canonicalize().expect("there");
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let folders = all.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok());
    folders.filter(|cwd| cwd.starts_with(&folder)).collect()
}

#[tokio::test]
async fn who_timed_out_is_named_and_nothing_of_it_lives() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/acme/slow.git", silent.local_addr().expect("bound"));
    let folder = tempfile::tempdir().expect("a folder");
    let limits = SyncLimits { clone: Duration::from_millis(500), fetch: Duration::from_millis(500) };
    let (slow, gone) = (repository("slow", &address), repository("gone", "/nowhere/at/all"));
    let git = git();
    let sync = |repository| one(&git, folder.path(), repository, Found::Nothing, WARNED, limits);
    let (slow, gone) = tokio::join!(sync(&slow), sync(&gone));
    assert!(slow.checkout.is_none() && gone.checkout.is_none());
    let stale: Vec<Stale> = [slow.stale, gone.stale].into_iter().flatten().collect();
    let text = fatal_text(&stale);
    assert!(text.starts_with("git sync timed out for acme/slow; git sync failed for acme/gone: "), "{text}");
    assert!(stale[0].warning().contains("timed out") && stale[1].warning().contains("failed"));
    for _ in 0..200 {
        if working_in(folder.path()).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", working_in(folder.path()));
}

#[tokio::test]
async fn a_clone_that_is_cancelled_leaves_no_process_and_no_checkout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/acme/slow.git", silent.local_addr().expect("bound"));
    let folder = tempfile::tempdir().expect("a folder");
    let (slow, git) = (repository("slow", &address), git());
    let cloning = one(&git, folder.path(), &slow, Found::Nothing, WARNED, SyncLimits::default());
    drop(tokio::time::timeout(Duration::from_millis(300), cloning).await);
    for _ in 0..200 {
        if working_in(folder.path()).is_empty() {
            assert!(!folder.path().join("slow").exists());
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", working_in(folder.path()));
}

#[test]
fn the_agent_works_in_the_only_repository_or_in_the_folder_of_all() {
    let root = Path::new("/workspace");
    let all = [repository("a", "x"), CheckoutRepository { position: 1, ..repository("b", "x") }];
    let checkout = |index: usize| checkout_of(root, &all[index], None);
    let of = |repositories: &[CheckoutRepository], there: Vec<Checkout>| assemble(root, repositories, there).directory;
    assert_eq!(of(&all[..1], vec![checkout(0)]), root.join("a"));
    assert_eq!(of(&all[..1], vec![]), root);
    assert_eq!(of(&all, vec![checkout(1), checkout(0)]), root);
    assert_eq!(of(&all, vec![checkout(1)]), root, "one of two is missing");
    assert_eq!(of(&[], vec![]), root);
}
