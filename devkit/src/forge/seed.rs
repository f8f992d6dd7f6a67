//! What the repositories hold when they are made: a short history with several authors, the same on every machine.

use std::fmt::Write as _;

use super::config::Seed;
use super::directory::Directory;
use super::names::BranchName;

/// 2024-03-04 09:00 UTC; each commit is some hours later.
const FIRST_COMMIT: i64 = 1_709_542_800;

macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("../../seed/", $path)))
    };
}

/// One commit: who, hours after the first, message, files as (path under `seed/`, content).
struct SeedCommit {
    /// Index into the configured people, in their order.
    author: usize,
    hours: i64,
    message: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const SAMPLE_SERVICE: &[SeedCommit] = &[
    SeedCommit {
        author: 1,
        hours: 0,
        message: "Start the sample service\n\nOne function that greets.",
        files: &[file!("sample-service/package.json"), file!("sample-service/src/greeting.js")],
    },
    SeedCommit { author: 0, hours: 26, message: "Answer over HTTP", files: &[file!("sample-service/src/server.js")] },
    SeedCommit {
        author: 1,
        hours: 31,
        message: "Test the greeting\n\ncheck.sh also works where there is no Node.",
        files: &[file!("sample-service/test/greeting.test.js"), file!("sample-service/check.sh")],
    },
    SeedCommit {
        author: 2,
        hours: 75,
        message: "Describe how to run and check the service",
        files: &[file!("sample-service/README.md")],
    },
];

const HANDBOOK: &[SeedCommit] = &[
    SeedCommit { author: 0, hours: 2, message: "Begin the handbook", files: &[file!("handbook/README.md")] },
    SeedCommit { author: 1, hours: 50, message: "Say how we review", files: &[file!("handbook/reviews.md")] },
];

/// The history as a `git fast-import` stream.
pub fn history(seed: Seed, branch: &BranchName, directory: &Directory) -> Vec<u8> {
    let commits = match seed {
        Seed::SampleService => SAMPLE_SERVICE,
        Seed::Handbook => HANDBOOK,
    };
    let people: Vec<_> = directory.users().collect();
    let mut stream = String::from("feature done\n");
    for commit in commits {
        let (name, email) = people.get(commit.author).map_or_else(
            || ("Acme".to_owned(), "team@example.com".to_owned()),
            |account| (account.name.clone(), account.noreply_email()),
        );
        // These three end a name or the line in the stream's grammar.
        let name = name.replace(['<', '>', '\n'], " ");
        let at = FIRST_COMMIT + commit.hours * 3_600;
        let message = commit.message;
        let _ = write!(
            stream,
            "commit {}\nauthor {name} <{email}> {at} +0000\ncommitter {name} <{email}> {at} +0000\ndata {}\n{message}\n",
            branch.full_ref(),
            message.len(),
        );
        for (path, content) in commit.files {
            let (_, path) = path.split_once('/').unwrap_or(("", path));
            let mode = if content.starts_with("#!") { "100755" } else { "100644" };
            let _ = write!(stream, "M {mode} inline {path}\ndata {}\n{content}\n", content.len());
        }
        stream.push('\n');
    }
    stream.push_str("done\n");
    stream.into_bytes()
}
