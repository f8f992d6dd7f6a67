//! The database in Cloudflare: <https://developers.cloudflare.com/d1/worker-api/>.

use js_sys::{Array, JSON, Promise, Reflect};
use oi_worker_kit::{Failure, Refusal};
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{D1Database, D1PreparedStatement, Env};

use super::{Database, DbError, Param, Statement};

#[wasm_bindgen]
extern "C" {
    type RawDatabase;

    #[wasm_bindgen(method, catch)]
    fn batch(this: &RawDatabase, statements: &Array) -> Result<Promise, JsValue>;
}

/// The binding `DB`, or `SEARCH_DB`.
pub struct D1(D1Database);

impl D1 {
    /// The database of the deployment.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        env.d1("DB").map(Self).map_err(|_| Refusal::not_configured("Database not configured").into())
    }

    /// The database of search, where the deployment has one.
    pub fn search(env: &Env) -> Option<Self> {
        env.d1("SEARCH_DB").map(Self).ok()
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

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn thrown(error: JsValue) -> DbError {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    DbError(message.unwrap_or_else(|| "an exception without a message".to_owned()))
}

/// How many rows a result says were changed.
fn changes(result: &JsValue) -> Result<u64, DbError> {
    let meta = Reflect::get(result, &"meta".into()).map_err(thrown)?;
    let changes = Reflect::get(&meta, &"changes".into()).map_err(thrown)?;
    changes.as_f64().map(|changes| changes as u64).ok_or_else(|| DbError("a result without a count".to_owned()))
}

impl Database for D1 {
    async fn rows<T: DeserializeOwned>(&self, sql: &str, params: Vec<Param>) -> Result<Vec<T>, DbError> {
        // Rows cross into wasm once, as one text, and are read like every other JSON.
        let rows = self.prepare(sql, &params)?.inner().all().map_err(thrown)?;
        let result: JsValue = JsFuture::from(rows).await.map_err(thrown)?;
        let rows = Reflect::get(&result, &"results".into()).map_err(thrown)?;
        let text = JSON::stringify(&rows).map_err(thrown)?;
        serde_json::from_str(&String::from(text)).map_err(|error| DbError(error.to_string()))
    }

    async fn change(&self, sql: &str, params: Vec<Param>) -> Result<u64, DbError> {
        let done = self.prepare(sql, &params)?.inner().run().map_err(thrown)?;
        changes(&JsFuture::from(done).await.map_err(thrown)?)
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<u64>, DbError> {
        let prepared: Result<Vec<_>, _> = statements.iter().map(|(sql, params)| self.prepare(sql, params)).collect();
        let prepared: Array = prepared?.iter().map(D1PreparedStatement::inner).collect();
        let raw: &RawDatabase = self.0.as_ref().unchecked_ref();
        let results = JsFuture::from(raw.batch(&prepared).map_err(thrown)?).await.map_err(thrown)?;
        Array::from(&results).iter().map(|result| changes(&result)).collect()
    }
}
