//! What the last days came to.

use std::collections::BTreeMap;

use oi_worker_kit::{Failure, Refusal, clock, reply};
use serde_json::{Value, json};
use worker::Response;

use crate::request::Cx;
use crate::store::analytics::{self as store, By, PullGroup, PullsBy, Window};

fn days(text: Option<&str>) -> Result<i64, Refusal> {
    match text {
        Some("7") => Ok(7),
        Some("14") => Ok(14),
        None | Some("30") => Ok(30),
        Some("90") => Ok(90),
        Some(_) => Err(Refusal::invalid_parameter("days must be 7, 14, 30 or 90")),
    }
}

fn window(cx: &Cx<'_>) -> Result<Window, Refusal> {
    let values = cx.head.query_values("days");
    if values.len() > 1 {
        return Err(Refusal::invalid_parameter("days may be given once"));
    }
    Ok(Window::days(days(values.first().map(String::as_str))?, clock::now()))
}

pub(super) async fn summary(cx: &Cx<'_>) -> Result<Response, Failure> {
    let all = store::summary(&cx.db()?, window(cx)?).await?;
    let average = if all.sessions > 0 { all.cost / all.sessions as f64 } else { 0.0 };
    reply::json(
        200,
        &json!({
            "totalSessions": all.sessions,
            "activeUsers": all.users,
            "totalCost": all.cost,
            "avgCost": average,
            "totalPrs": all.prs,
            "statusBreakdown": {
                "created": all.created, "active": all.active, "completed": all.completed, "failed": all.failed,
                "archived": all.archived, "cancelled": all.cancelled,
            },
        }),
    )
}

pub(super) async fn timeseries(cx: &Cx<'_>) -> Result<Response, Failure> {
    let mut days: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for count in store::by_day(&cx.db()?, window(cx)?).await? {
        *days.entry(count.date).or_default().entry(count.name).or_default() += count.sessions;
    }
    let series: Vec<Value> = days.into_iter().map(|(date, groups)| json!({"date": date, "groups": groups})).collect();
    reply::json(200, &json!({"series": series}))
}

pub(super) async fn breakdown(cx: &Cx<'_>) -> Result<Response, Failure> {
    let by = match cx.head.query_value("by").as_deref() {
        Some("user") => By::User,
        Some("repo") => By::Repository,
        _ => return Err(Refusal::invalid_parameter("by must be user or repo").into()),
    };
    let entries = store::breakdown(&cx.db()?, by, window(cx)?).await?;
    reply::json(200, &json!({"entries": entries}))
}

pub(super) async fn pull_requests(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (db, window) = (cx.db()?, window(cx)?);
    let all = store::pulls(&db, window).await?;
    let groups = async |by, shown: fn(PullGroup) -> Value| -> Result<Vec<Value>, Failure> {
        Ok(store::pull_groups(&db, by, window).await?.into_iter().map(shown).collect())
    };
    let timeseries =
        groups(PullsBy::Day, |day| json!({"date": day.key, "created": day.created, "merged": day.merged})).await?;
    let repos = groups(PullsBy::Repository, |repo| {
        json!({"key": repo.key, "created": repo.created, "merged": repo.merged, "closed": repo.closed,
            "avgTimeToMergeMs": repo.avg_time_to_merge})
    })
    .await?;
    let sources = groups(
        PullsBy::Source,
        |source| json!({"source": source.key, "created": source.created, "merged": source.merged}),
    )
    .await?;
    reply::json(
        200,
        &json!({
            "funnel": {"created": all.created, "open": all.open, "draft": all.draft, "merged": all.merged,
                "closed": all.closed},
            "prSessionCost": all.session_cost,
            "mergedInWindow": all.merged_in_window,
            "avgTimeToMergeMs": all.avg_time_to_merge,
            "openInventory": {"total": all.inventory, "avgAgeMs": all.avg_age},
            "timeseries": timeseries,
            "repos": repos,
            "sources": sources,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_one_of_four() {
        assert_eq!([None, Some("7"), Some("14"), Some("90")].map(|text| days(text).expect("fits")), [30, 7, 14, 90]);
        for bad in ["", "1", "31", "x"] {
            assert_eq!(days(Some(bad)).expect_err(bad).status, 400);
        }
    }
}
