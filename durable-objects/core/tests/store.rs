//! The checks of [`oi_session::store_checks`] on `rusqlite`, and on stores with planted bugs, which they must see. The
//! same list runs in workerd: `e2e/tests/e2e/store.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oi_session::sql::{Row, Sql, SqlError, Value};
use oi_session::sql_native::NativeSql;
use oi_session::store_checks::{CHECKS, PLANTED, Store, find};

/// A bug of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A transaction that fails is committed all the same.
    KeepsWhatFailed,
    /// The same for one that panics.
    KeepsWhatPanicked,
    /// A text ends at its first NUL, as a string of C does.
    CutsTextAtNul,
    /// Whole numbers go through a float of 32 bits.
    RoundsNumbers,
    /// NULL becomes the empty text.
    KnowsNoNull,
    /// Errors of statements are not told.
    HidesErrors,
}

struct Native {
    sql: NativeSql,
    bug: Bug,
}

impl Native {
    fn with(bug: Bug) -> Self {
        Self { sql: NativeSql::in_memory().expect("SQLite opens in memory"), bug }
    }

    fn distort(&self, value: Value) -> Value {
        match (self.bug, value) {
            (Bug::CutsTextAtNul, Value::Text(text)) => {
                Value::Text(text.split('\0').next().unwrap_or_default().to_owned())
            }
            #[expect(clippy::cast_precision_loss, reason = "that is the bug")]
            (Bug::RoundsNumbers, Value::Int(number)) => Value::Int(number as f32 as i64),
            (Bug::KnowsNoNull, Value::Null) => Value::Text(String::new()),
            (_, value) => value,
        }
    }
}

impl Sql for Native {
    fn run(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, SqlError> {
        let rows = match self.sql.run(sql, params) {
            Err(_) if self.bug == Bug::HidesErrors => Vec::new(),
            result => result?,
        };
        Ok(rows.into_iter().map(|row| row.into_iter().map(|value| self.distort(value)).collect()).collect())
    }
}

impl Store for Native {
    fn sql(&self) -> &dyn Sql {
        self
    }

    fn transact(&self, body: &mut dyn FnMut(&dyn Sql) -> Result<(), String>) -> Result<(), String> {
        let mut kept = None;
        let whole = catch_unwind(AssertUnwindSafe(|| {
            self.sql.transaction(|_| match catch_unwind(AssertUnwindSafe(|| body(self))) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(reason)) if self.bug == Bug::KeepsWhatFailed => {
                    kept = Some(reason);
                    Ok(())
                }
                Ok(Err(reason)) => Err(SqlError(reason)),
                Err(_) if self.bug == Bug::KeepsWhatPanicked => {
                    kept = Some("panic".to_owned());
                    Ok(())
                }
                Err(panic) => std::panic::resume_unwind(panic),
            })
        }));
        match (whole, kept) {
            (Ok(Ok(())), None) => Ok(()),
            (Ok(Ok(())), Some(reason)) | (Ok(Err(SqlError(reason))), _) => Err(reason),
            (Err(_), _) => Err("panic".to_owned()),
        }
    }
}

/// Names and reasons of the checks that fail.
fn failures(bug: Bug) -> Vec<(&'static str, String)> {
    let failed = |check: &oi_session::store_checks::Check| {
        let store = Native::with(bug);
        let result = catch_unwind(AssertUnwindSafe(|| check.run(&store)));
        let reason = match result {
            Ok(Ok(())) => return None,
            Ok(Err(failed)) => failed.to_string(),
            Err(_) => "panic".to_owned(),
        };
        Some((check.name, reason))
    };
    CHECKS.iter().filter_map(failed).collect()
}

#[test]
fn every_check_passes_on_rusqlite() {
    let failures = failures(Bug::None);
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(CHECKS.len() > 25, "{} checks", CHECKS.len());
}

#[test]
fn checks_have_names_of_their_own() {
    let mut names: Vec<&str> = CHECKS.iter().chain(PLANTED).map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len() + PLANTED.len());
    assert!(names.iter().all(|name| find(name).is_some_and(|check| check.name == *name)));
    assert!(find("nothing").is_none());
}

#[test]
fn planted_checks_fail() {
    for check in PLANTED {
        let store = Native::with(Bug::None);
        let result = catch_unwind(AssertUnwindSafe(|| check.run(&store)));
        assert!(!matches!(result, Ok(Ok(()))), "{} passed", check.name);
    }
}

#[test]
fn a_store_with_a_bug_does_not_pass() {
    for (bug, seen_by) in [
        (Bug::KeepsWhatFailed, "transactions::a_transaction_that_fails_leaves_nothing"),
        (Bug::KeepsWhatFailed, "session::a_fault_at_any_statement_leaves_everything_as_it_was"),
        (Bug::KeepsWhatPanicked, "transactions::a_transaction_that_panics_leaves_nothing"),
        (Bug::KeepsWhatPanicked, "session::a_panic_at_any_statement_leaves_everything_as_it_was"),
        (Bug::CutsTextAtNul, "values::texts_come_back_with_every_character"),
        (Bug::RoundsNumbers, "values::whole_numbers_up_to_2_to_the_53_come_back"),
        (Bug::KnowsNoNull, "values::null_is_neither_empty_nor_zero"),
        (Bug::HidesErrors, "constraints::a_second_row_of_a_unique_key_is_refused"),
    ] {
        let failures = failures(bug);
        assert!(failures.iter().any(|(name, _)| *name == seen_by), "{seen_by} does not see {bug:?}: {failures:#?}");
    }
}
