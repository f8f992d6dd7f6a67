//! The database in Cloudflare: <https://developers.cloudflare.com/d1/worker-api/>.

use oi_worker_kit::{Failure, Refusal};
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;
use worker::{D1Database, D1PreparedStatement, Env};

use super::{Database, DbError, Param, Statement};

/// The binding `DB`.
pub struct D1(D1Database);

impl D1 {
    /// The database of the deployment.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        env.d1("DB").map(Self).map_err(|_| Refusal::not_configured("Database not configured").into())
    }

    fn prepare(&self, sql: &str, params: &[Param]) -> Result<D1PreparedStatement, DbError> {
        let values: Vec<JsValue> = params
            .iter()
            .map(|param| match param {
                Param::Null => JsValue::NULL,
                Param::Int(value) => JsValue::from_f64(*value as f64),
                Param::Real(value) => JsValue::from_f64(*value),
                Param::Text(text) => JsValue::from_str(text),
            })
            .collect();
        self.0.prepare(sql).bind(&values).map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn failed(error: worker::Error) -> DbError {
    DbError(error.to_string())
}

fn changes(result: &worker::D1Result) -> Result<u64, DbError> {
    let meta = result.meta().map_err(failed)?;
    Ok(meta.and_then(|meta| meta.changes).unwrap_or(0) as u64)
}

impl Database for D1 {
    async fn rows<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Vec<T>, DbError> {
        let result = self.prepare(sql, &params)?.all().await.map_err(failed)?;
        result.results().map_err(failed)
    }

    async fn change(&self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        changes(&self.prepare(sql, &params)?.run().await.map_err(failed)?)
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        let prepared: Result<Vec<_>, _> = statements.iter().map(|(sql, params)| self.prepare(sql, params)).collect();
        let results = self.0.batch(prepared?).await.map_err(failed)?;
        results.iter().map(changes).collect()
    }
}
