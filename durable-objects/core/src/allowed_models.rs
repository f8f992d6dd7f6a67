//! The models that prompts of pages may name. The control plane decides that, and tells the session before it lets a
//! page in and whenever it changes; prompts by REST are looked at by the control plane itself.

use std::collections::BTreeMap;

use oi_protocol::ErrorCode;
use oi_protocol::text::truncate_bytes;
use serde::{Deserialize, Serialize};

use crate::prompts::Refusal;
use crate::sql::{Columns, Sql, SqlError, params};

/// Models that are enabled, each with the efforts that it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedModels {
    /// Grows with every change of the deployment's choice: what comes late takes nothing back.
    pub version: i64,
    /// Efforts by `provider/model`.
    pub models: BTreeMap<String, Vec<String>>,
}

/// Takes over a list that is not older than the one that is known.
pub(crate) fn save(sql: &dyn Sql, allowed: &AllowedModels) -> Result<(), SqlError> {
    let models = serde_json::to_string(&allowed.models).map_err(|error| SqlError(error.to_string()))?;
    sql.run(
        "INSERT INTO allowed_models (one, version, models) VALUES (1, ?, ?)
         ON CONFLICT (one) DO UPDATE SET version = excluded.version, models = excluded.models
            WHERE excluded.version >= allowed_models.version",
        params![allowed.version, models],
    )?;
    Ok(())
}

/// Why a page's prompt may not have this model or effort. A session that was told of no list takes any.
pub(crate) fn refusal(sql: &dyn Sql, model: Option<&str>, effort: Option<&str>) -> Result<Option<Refusal>, SqlError> {
    let Some(model) = model else { return Ok(None) };
    let Some(row) = sql.run("SELECT models FROM allowed_models", &[])?.pop() else { return Ok(None) };
    let known: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&Columns::of(row).text()?).map_err(|error| SqlError(error.to_string()))?;
    let refuse = |sentence: String| Ok(Some(Refusal::new(ErrorCode::InvalidPrompt, 400, sentence)));
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let Some(efforts) = known.get(model) else {
        let names = list(known.keys().map(String::as_str).collect());
        return refuse(format!("Model `{}` is not enabled. Available: {names}", truncate_bytes(model, 100)));
    };
    match effort {
        Some(effort) if !efforts.iter().any(|one| one == effort) => {
            let names = list(efforts.iter().map(String::as_str).collect());
            let effort = truncate_bytes(effort, 40);
            refuse(format!("Unknown reasoningEffort `{effort}` of {model}. Available: {names}"))
        }
        _ => Ok(None),
    }
}
