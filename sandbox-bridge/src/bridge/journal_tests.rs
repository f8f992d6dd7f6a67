use oi_protocol::sandbox_socket::{CommandAuthor, GitIdentity};
use proptest::prelude::*;

use super::*;

fn id(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

fn order(n: u8) -> PromptOrder {
    PromptOrder {
        message_id: id(n),
        content: format!("prompt {n}\nwith a line feed"),
        model: "demo/scripted".to_owned(),
        reasoning_effort: None,
        author: CommandAuthor { user_id: "u".to_owned(), git_identity: GitIdentity::AgentOnly },
        attachments: None,
    }
}

fn body(n: usize) -> String {
    format!(r#"{{"type":"warning","scope":"setup","message":"frame {n} ä😀","timestamp":1.5}}"#)
}

fn done(n: u8) -> String {
    format!(r#"{{"type":"execution_complete","messageId":"{}","success":true,"timestamp":2.0}}"#, id(n))
}

fn open(path: &Path) -> Journal {
    Journal::open(path, JournalLimits::default()).expect("the journal opens")
}

fn waiting(journal: &Journal) -> Vec<(i64, String)> {
    (journal.acked() + 1..journal.next_seq())
        .map(|seq| (seq, journal.frame(seq).expect("readable").expect("waits")))
        .collect()
}

#[test]
fn frames_are_numbered_from_one_without_gaps_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = open(&path);
    assert_eq!(journal.append(&body(1), FrameKind::Ordinary).expect("room"), 1);
    assert_eq!(journal.append(&body(2), FrameKind::Ordinary).expect("room"), 2);
    journal.ack(1).expect("written");
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.acked(), 1);
    assert_eq!(waiting(&journal), [(2, body(2))]);
    assert_eq!(journal.append(&body(3), FrameKind::Ordinary).expect("room"), 3);
}

/// The file as it may be after a kill at any instant: every prefix of it.
#[test]
fn a_journal_cut_at_any_byte_loses_no_frame_that_could_have_been_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = open(&path);
    // What was true after each step, with the length that the file then had.
    let mut steps = Vec::new();
    let mut note = |journal: &Journal| {
        steps.push((journal.length, journal.acked(), waiting(journal), journal.prompts().clone()));
    };
    note(&journal);
    for step in 0..24_u8 {
        match step % 6 {
            0 => journal.accept_prompt(&order(step)).expect("written"),
            1 => journal.start_prompt(&id(step - 1), "ses_1").expect("written"),
            2 | 3 => drop(journal.append(&body(step.into()), FrameKind::Ordinary).expect("room")),
            4 => drop(journal.append(&done(step - 4), FrameKind::EndsPrompt).expect("room")),
            _ => journal.ack(journal.next_seq() - 2).expect("written"),
        }
        note(&journal);
    }
    let whole = std::fs::read(&path).expect("the file");
    assert_eq!(whole.len() as u64, journal.length);
    let cut_path = folder.path().join("cut");
    for cut in 0..=whole.len() {
        std::fs::write(&cut_path, &whole[..cut]).expect("written");
        let recovered = open(&cut_path);
        let (length, acked, frames, prompts) =
            steps.iter().rev().find(|(length, ..)| *length <= cut as u64).expect("the empty file is a step");
        assert_eq!(recovered.length, *length, "cut at {cut}");
        assert_eq!(recovered.acked(), *acked, "cut at {cut}");
        assert_eq!(waiting(&recovered), *frames, "cut at {cut}");
        assert_eq!(recovered.prompts(), prompts, "cut at {cut}");
    }
}

#[test]
fn after_a_torn_line_new_frames_are_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = open(&path);
    journal.append(&body(1), FrameKind::Ordinary).expect("room");
    journal.append(&body(2), FrameKind::Ordinary).expect("room");
    let length = journal.length;
    drop(journal);
    OpenOptions::new().write(true).open(&path).expect("opens").set_len(length - 7).expect("cut");
    let mut journal = open(&path);
    assert_eq!(journal.append(&body(9), FrameKind::Ordinary).expect("room"), 2);
    drop(journal);
    assert_eq!(waiting(&open(&path)), [(1, body(1)), (2, body(9))]);
}

#[test]
fn a_finished_prompt_is_remembered_and_its_text_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = open(&path);
    journal.accept_prompt(&order(1)).expect("written");
    journal.append(&done(1), FrameKind::EndsPrompt).expect("room");
    journal.ack(1).expect("written");
    journal.compact(1).expect("written");
    drop(journal);
    let journal = open(&path);
    let outcome = PromptOutcome { success: true, error: None };
    assert_eq!(journal.prompts().state(&id(1)), Some(&PromptState::Done(outcome)));
    assert!(!std::fs::read_to_string(&path).expect("text").contains("with a line feed"));
}

#[test]
fn a_session_that_knows_more_than_the_journal_gets_higher_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let mut journal = open(&path);
    journal.append(&body(1), FrameKind::Ordinary).expect("room");
    journal.continue_from(40).expect("written");
    assert_eq!(waiting(&journal), [(41, body(1))]);
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.append(&body(2), FrameKind::Ordinary).expect("room"), 42);
    assert_eq!(waiting(&journal), [(41, body(1)), (42, body(2))]);
}

#[test]
fn a_session_that_forgot_gets_what_waits_from_its_own_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = open(&folder.path().join("journal"));
    for n in 1..=5 {
        journal.append(&body(n), FrameKind::Ordinary).expect("room");
    }
    journal.ack(4).expect("written");
    journal.continue_from(0).expect("written");
    assert_eq!(waiting(&journal), [(1, body(5))]);
}

#[test]
fn a_full_journal_still_lets_a_prompt_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = JournalLimits { unacked: 300, reserve: 300, compact_at: 1 << 20 };
    let mut journal = Journal::open(&folder.path().join("journal"), limits).expect("opens");
    let mut taken = 0;
    while journal.append(&body(taken), FrameKind::Ordinary).is_ok() {
        taken += 1;
    }
    assert!(taken > 0 && matches!(journal.append(&body(0), FrameKind::Ordinary), Err(JournalError::Full)));
    journal.append(&done(1), FrameKind::EndsPrompt).expect("the reserve is for this");
}

#[test]
fn acknowledged_frames_leave_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let limits = JournalLimits { compact_at: 4096, ..JournalLimits::default() };
    let mut journal = Journal::open(&path, limits).expect("opens");
    for n in 0..2000 {
        let seq = journal.append(&body(n), FrameKind::Ordinary).expect("room");
        journal.ack(seq - 3).expect("written");
    }
    assert!(journal.length < 16 * 1024, "{}", journal.length);
    let expected = waiting(&journal);
    drop(journal);
    assert_eq!(waiting(&open(&path)), expected);
    assert_eq!(expected.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is done, a journal that is opened again says what it said before.
    #[test]
    fn reopening_changes_nothing(steps in proptest::collection::vec((0_u8..6, 0_i64..30), 1..60)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let limits = JournalLimits { compact_at: 512, ..JournalLimits::default() };
        let mut journal = Journal::open(&path, limits).expect("opens");
        for (n, (step, number)) in steps.into_iter().enumerate() {
            match step {
                0 => journal.accept_prompt(&order(n as u8)).expect("written"),
                1 | 2 => drop(journal.append(&body(n), FrameKind::Ordinary).expect("room")),
                3 => drop(journal.append(&done(n as u8), FrameKind::EndsPrompt).expect("room")),
                4 => journal.ack(number).expect("written"),
                _ => journal.continue_from(number).expect("written"),
            }
        }
        let (acked, frames, prompts) = (journal.acked(), waiting(&journal), journal.prompts().clone());
        drop(journal);
        let again = Journal::open(&path, limits).expect("opens");
        prop_assert_eq!((again.acked(), waiting(&again), again.prompts()), (acked, frames, &prompts));
    }
}
