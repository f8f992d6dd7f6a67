//! What the page must know before anybody signs in, and the models.

use oi_protocol::rest::AppConfig;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, reply};
use worker::Response;

use crate::auth::sign_in::Provider;
use crate::models::Models;
use crate::request::Cx;

/// Ways to sign in that are set up.
pub(super) fn sign_in_providers(cx: &Cx<'_>) -> Vec<String> {
    let set_up = Provider::ALL.into_iter().filter(|provider| provider.require_configured(cx.env).is_ok());
    set_up.map(|provider| provider.as_str().to_owned()).collect()
}

pub(super) fn show(cx: &Cx<'_>) -> Result<Response, Failure> {
    let config = AppConfig {
        app_name: cx.env.get_or("APP_NAME", "Open-Inspect"),
        sign_in_providers: sign_in_providers(cx),
        demo_model: Models::of(cx.env).is_demo(),
    };
    reply::json(200, &config)
}

pub(super) async fn models(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &Models::enabled(&cx.db()?, cx.env).await?.list())
}
