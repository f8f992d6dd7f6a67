//! What the session relies on in its store, as one list of checks that run on any of them: on `rusqlite` in
//! `tests/store.rs`, and in workerd on the real storage of a Durable Object in `e2e/tests/e2e/store.rs`.
//!
//! A check gets an empty store of its own. It compares by what the core's readers make of values, so that a store may
//! give a whole number as an integer or as a float.

mod constraints;
mod played;
mod schema;
mod session;
mod transactions;
mod values;

use crate::sql::{Columns, Row, Sql, SqlError, Value};

/// A store as the host has it: statements, and transactions around them.
pub trait Store {
    /// Statements outside of a transaction, or inside of the one that runs.
    fn sql(&self) -> &dyn Sql;

    /// Runs `body` in one transaction: committed when it gives `Ok`, rolled back when it fails or panics. A panic is
    /// given as an error.
    fn transact(&self, body: &mut dyn FnMut(&dyn Sql) -> Result<(), String>) -> Result<(), String>;
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self(error.to_string())
    }
}
impl From<crate::core::Fault> for Failed {
    fn from(fault: crate::core::Fault) -> Self {
        Self(format!("fault: {fault}"))
    }
}

/// What a check comes to.
pub type Checked<T = ()> = Result<T, Failed>;

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// What holds when it passes.
    pub name: &'static str,
    run: fn(&dyn Store) -> Checked,
}

impl Check {
    /// Runs it on an empty store.
    pub fn run(&self, store: &dyn Store) -> Checked {
        (self.run)(store)
    }
}

macro_rules! checks {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Check { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name }),*]
    };
}

/// All of them.
pub const CHECKS: &[Check] = checks![
    values::whole_numbers_up_to_2_to_the_53_come_back,
    values::fractions_come_back,
    values::null_is_neither_empty_nor_zero,
    values::texts_come_back_with_every_character,
    values::a_text_of_nearly_two_megabytes_comes_back,
    values::a_hundred_values_are_bound,
    values::a_numbered_value_is_used_twice,
    values::counts_sums_and_lengths_are_numbers,
    values::rows_come_in_their_order_and_whole,
    constraints::a_second_row_of_a_unique_key_is_refused,
    constraints::a_row_against_a_check_or_without_its_value_is_refused,
    constraints::a_partial_unique_index_is_about_its_rows_only,
    constraints::a_row_is_replaced_ignored_or_updated_as_the_statement_says,
    constraints::an_id_is_never_given_twice,
    constraints::a_wrong_statement_is_an_error_and_the_store_goes_on,
    transactions::what_is_committed_stays,
    transactions::a_transaction_that_fails_leaves_nothing,
    transactions::a_transaction_that_panics_leaves_nothing,
    transactions::a_refused_statement_does_not_end_its_transaction,
    transactions::a_transaction_sees_what_it_wrote,
    schema::every_earlier_schema_becomes_the_newest_and_keeps_its_rows,
    schema::migrating_twice_changes_nothing,
    session::an_object_stays_empty_until_its_session_is_created,
    session::events_keep_their_places_and_get_new_revisions,
    session::pages_reach_the_first_event_without_a_gap,
    session::a_page_that_resumes_gets_what_changed,
    session::text_is_written_and_goes_on_after_a_rebuild,
    session::a_job_is_claimed_again_when_its_lease_ends,
    session::a_job_of_the_same_key_takes_the_place_of_the_one_that_waits,
    session::finished_turns_move_to_a_file_and_the_places_go_on,
    session::a_fault_at_any_statement_leaves_everything_as_it_was,
    session::a_panic_at_any_statement_leaves_everything_as_it_was,
];

/// Checks that must fail on every store: they show that a failure is told.
pub const PLANTED: &[Check] = checks![transactions::planted_to_fail, transactions::planted_to_panic];

/// The check of this name, planted ones included.
pub fn find(name: &str) -> Option<Check> {
    CHECKS.iter().chain(PLANTED).find(|check| check.name == name).copied()
}

/// Fails with a sentence when the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($arg:tt)+) => {
        if !$condition {
            return Err($crate::store_checks::Failed(format!($($arg)+)));
        }
    };
}
/// Fails when two values differ, showing both.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($arg:tt)+) => {
        let (left, right) = (&$left, &$right);
        if left != right {
            let what = format!($($arg)+);
            return Err($crate::store_checks::Failed(format!("{what}: {left:?} where {right:?} belongs")));
        }
    };
}
use {ensure, ensure_eq};

/// The only row of a query.
fn one(sql: &dyn Sql, query: &str, params: &[Value]) -> Checked<Columns> {
    let mut rows = sql.run(query, params)?;
    let row = rows.pop().filter(|_| rows.is_empty());
    row.map(Columns::of).ok_or_else(|| Failed(format!("not one row of {query}")))
}

/// The only value of a query, a whole number.
fn count(sql: &dyn Sql, query: &str) -> Checked<i64> {
    Ok(one(sql, query, &[])?.int()?)
}

/// Values as the core reads them: a float without a fraction is a whole number.
fn plain(row: Row) -> Row {
    let whole = |value: f64| value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
    row.into_iter()
        .map(|value| match value {
            Value::Real(real) if whole(real) => Value::Int(real as i64),
            other => other,
        })
        .collect()
}

/// All that is stored, table by table, and the schema.
fn dump(sql: &dyn Sql) -> Checked<Vec<(String, Vec<Row>)>> {
    let mut dump = vec![(
        "schema".to_owned(),
        sql.run(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%'
                ORDER BY name",
            &[],
        )?,
    )];
    let tables = dump.iter().flat_map(|(_, rows)| rows).filter_map(|row| match row.as_slice() {
        [Value::Text(kind), Value::Text(name), _] if kind == "table" => Some(name.clone()),
        _ => None,
    });
    for name in tables.collect::<Vec<_>>() {
        let rows = sql.run(&format!("SELECT * FROM {name} ORDER BY rowid"), &[])?;
        dump.push((name, rows.into_iter().map(plain).collect()));
    }
    Ok(dump)
}
