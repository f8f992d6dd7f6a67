//! The way of a request: where it goes, who makes it, what answers it, what every answer has.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use oi_protocol::ErrorCode;
use oi_worker_kit::log::Line;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::trace::{REQUEST_HEADER, TRACE_HEADER, Trace};
use oi_worker_kit::{Failure, Fault, Refusal, clock, reply, request_body};
use worker::{Context, Env, Request, Response};

use crate::assets::STRICT_TRANSPORT;
use crate::auth::{personal_token, service, still_admitted};
use crate::policy::{Authenticated, Caller, Policy, admit, grants};
use crate::request::{Cx, Head};
use crate::router::{Found, Route, find};
use crate::routes::{Handler, ROUTES};
use crate::store::D1;
use crate::web_origin::WebOrigin;
use crate::{assets, handlers, upgrade};

/// The longest body of a signed request.
const SIGNED_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// To the table of routes.
    Api,
    /// To the page.
    App,
}

/// The one place that decides between the API and the page. `/api` is the API; a path outside of it is only for
/// requests that bring a signature or a bearer, that change something, or that ask for a public route. Any other GET
/// is the page's.
fn destination(method: &str, path: &str, has_credential: bool) -> Destination {
    let is_read = matches!(method, "GET" | "HEAD");
    let is_public = matches!(find(ROUTES, method, path), Found::Route(route, _) if route.policy == Policy::Public);
    if is_below_api(path) || has_credential || !is_read || is_public { Destination::Api } else { Destination::App }
}

fn is_below_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

fn bearer(head: &Head) -> Option<String> {
    let value = head.header("Authorization")?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// Answers a request, whatever happens.
pub async fn answer(request: Request, env: &Env, context: &Context) -> worker::Result<Response> {
    let began = clock::now();
    let head = read_head(&request);
    let trace = Trace::begin(head.header(TRACE_HEADER).as_deref());
    let mut caller = "nobody";
    let outcome = AssertUnwindSafe(serve(request, &head, env, context, &trace, &mut caller)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Fault::new("answering a request", "panic").into()));
    let served = match outcome {
        Ok(served) => served,
        Err(failure) => {
            if let Failure::Faulted(fault) = &failure {
                Line::error("control-plane", "http.fault").trace(&trace).with("error", fault.to_string()).write();
            }
            let response = reply::failure(&failure, &trace.request_id).map_err(|error| error.to_string())?;
            Served::Api(response)
        }
    };
    let response = match served {
        // A page has its own headers and is not logged.
        Served::Page(response) => return Ok(response),
        // An upgraded connection takes no headers.
        Served::Upgraded(response) => {
            Line::info("control-plane", "http.upgraded").trace(&trace).with("http_path", &head.path).write();
            return Ok(response);
        }
        Served::Api(response) => response,
    };
    let status = response.status_code();
    let line = if status >= 500 {
        Line::error("control-plane", "http.request")
    } else {
        Line::info("control-plane", "http.request")
    };
    line.trace(&trace)
        .with("http_method", &head.method)
        .with("http_path", oi_protocol::text::truncate_bytes(&head.path, 200))
        .with("http_status", status)
        .with("duration_ms", clock::now().since(began))
        .with("principal_kind", caller)
        .write();
    let https = WebOrigin::of(env).is_ok_and(|origin| origin.is_https());
    finish(response, &trace, https)
}

fn read_head(request: &Request) -> Head {
    // The platform has parsed and normalised the URL already, and leaves no fragment in it.
    let url = request.inner().url();
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let target = rest.find('/').map_or("/", |start| &rest[start..]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Head {
        // The crate's own type knows some methods only.
        method: request.inner().method(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: request.headers().clone(),
    }
}

/// What every answer of the API has.
fn finish(mut response: Response, trace: &Trace, https: bool) -> worker::Result<Response> {
    let headers = response.headers_mut();
    headers.set(REQUEST_HEADER, &trace.request_id)?;
    headers.set(TRACE_HEADER, &trace.trace_id)?;
    headers.set("X-Content-Type-Options", "nosniff")?;
    headers.set("Referrer-Policy", "no-referrer")?;
    headers.set("X-Frame-Options", "DENY")?;
    headers.set("Cross-Origin-Resource-Policy", "same-origin")?;
    if https {
        headers.set("Strict-Transport-Security", STRICT_TRANSPORT)?;
    }
    // Answers are data: opened as a page, they load and run nothing.
    if !headers.has("Content-Security-Policy")? {
        headers
            .set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox")?;
    }
    if !headers.has("Cache-Control")? {
        headers.set("Cache-Control", "private, no-store")?;
    }
    Ok(response)
}

enum Served {
    Api(Response),
    Page(Response),
    Upgraded(Response),
}

async fn serve(
    request: Request,
    head: &Head,
    env: &Env,
    context: &Context,
    trace: &Trace,
    caller: &mut &'static str,
) -> Result<Served, Failure> {
    if head.header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        let response = match find(ROUTES, &head.method, &head.path) {
            Found::Route(route, parameters) if route.handler.takes_upgrades() => {
                upgrade_by_table(request, head, env, context, trace, (route, parameters)).await?
            }
            _ => upgrade::answer(request, head, env).await?,
        };
        let upgraded = response.status_code() == 101;
        return Ok(if upgraded { Served::Upgraded(response) } else { Served::Api(response) });
    }
    let has_credential = service::claims(head) || bearer(head).is_some();
    if destination(&head.method, &head.path, has_credential) == Destination::App {
        return assets::answer(request, env).await.map(Served::Page);
    }
    let (route, parameters) = match find(ROUTES, &head.method, &head.path) {
        Found::Route(route, parameters) => (route, parameters),
        Found::OtherMethods(methods) => return other_method(head, &methods, trace).map(Served::Api),
        Found::Nothing => return Err(Refusal::not_found("Not found").into()),
    };
    let (who, body, stream) = authenticate(request, head, env, trace, route).await?;
    *caller = who.kind();
    admit(route.policy, &who)?;
    let parameters = parameters.into_iter().map(str::to_owned).collect();
    let cx = Cx { env, context, trace, head, body, stream, parameters, who };
    handlers::handle(route.handler, &cx).await.map(Served::Api)
}

/// Answers the upgrade of a route of the table. A browser sends our cookie along from any page: so it must be one of ours.
async fn upgrade_by_table(
    request: Request,
    head: &Head,
    env: &Env,
    context: &Context,
    trace: &Trace,
    (route, parameters): (&Route<Handler>, Vec<&str>),
) -> Result<Response, Failure> {
    let (origin, site) = (head.header("Origin"), head.header("Sec-Fetch-Site"));
    if !WebOrigin::of(env)?.may_connect(origin.as_deref(), site.as_deref()) {
        return Err(Refusal::forbidden("Forbidden: Wrong origin").into());
    }
    let (who, body, stream) = authenticate(request, head, env, trace, route).await?;
    admit(route.policy, &who)?;
    let parameters = parameters.into_iter().map(str::to_owned).collect();
    let cx = Cx { env, context, trace, head, body, stream, parameters, who };
    handlers::upgrade(route.handler, &cx).await
}

fn other_method(head: &Head, methods: &[&str], trace: &Trace) -> Result<Response, Failure> {
    let allowed = methods.join(", ");
    let mut response = if head.method == "OPTIONS" {
        reply::text(204, "")?
    } else {
        let sentence = format!("This path takes {allowed}");
        let refusal = Refusal::new(405, ErrorCode::MethodNotAllowed, sentence);
        reply::failure(&Failure::from(refusal), &trace.request_id)?
    };
    response.headers_mut().set("Allow", &allowed).map_err(oi_worker_kit::failure::while_doing("writing a header"))?;
    Ok(response)
}

/// Finds out who calls, and reads the body: only once it is known that there is someone to read it for.
async fn authenticate(
    mut request: Request,
    head: &Head,
    env: &Env,
    trace: &Trace,
    route: &Route<Handler>,
) -> Result<(Authenticated, Vec<u8>, Option<Request>), Failure> {
    if service::claims(head) {
        if !route.policy.takes_signatures() {
            return Err(Refusal::unauthorized().into());
        }
        let claim = service::read(head, env, trace)?;
        // A signature is over the whole body, which has to be held.
        let body = request_body::read(&mut request, route.max_body.min(SIGNED_MAX_BYTES)).await?;
        let db = D1::of(env)?;
        let (service, actor) = claim.verify(head, &body, &db, trace).await?;
        let caller = match service {
            Service::Web => by_cookie(head, env).await?.unwrap_or(Caller::Web),
            Service::SlackBot | Service::GithubBot | Service::LinearBot => Caller::Bot { service, actor },
        };
        return Ok((Authenticated { caller, signed_by: Some(service), token: None }, body, None));
    }
    if let Some(bearer) = bearer(head).filter(|bearer| personal_token::claims(bearer)) {
        let who = by_personal_token(&bearer, env, route).await?;
        return read_for(who, request, route).await;
    }
    let caller = if is_below_api(&head.path) {
        if head.method != "GET" {
            require_same_origin(head, env)?;
        }
        match route.policy {
            Policy::Public => Caller::Nobody,
            _ => by_cookie(head, env).await?.unwrap_or(Caller::Nobody),
        }
    } else {
        let token = bearer(head).filter(|_| route.policy.takes_sandboxes());
        token.map_or(Caller::Nobody, |token| Caller::Bearer { token })
    };
    read_for(Authenticated { caller, signed_by: None, token: None }, request, route).await
}

/// Who a script's token stands for, if the route takes such tokens and this one may be used for it. No browser sends one
/// by itself, so where the request comes from does not matter.
async fn by_personal_token(bearer: &str, env: &Env, route: &Route<Handler>) -> Result<Authenticated, Failure> {
    let Some(wanted) = route.token_scope() else {
        return Err(Refusal::forbidden("Personal tokens cannot be used for this. Sign in and do it yourself.").into());
    };
    let who = personal_token::owner(env, bearer).await?;
    if who.token.as_ref().is_some_and(|token| grants(&token.scopes, wanted)) {
        return Ok(who);
    }
    let sentence = format!("This token may not be used for this: it lacks the scope `{}`", wanted.as_str());
    Err(Refusal::forbidden(sentence).into())
}

/// Reads the body, once it is known that there is someone to read it for.
async fn read_for(
    who: Authenticated,
    mut request: Request,
    route: &Route<Handler>,
) -> Result<(Authenticated, Vec<u8>, Option<Request>), Failure> {
    admit(route.policy, &who)?;
    if route.handler.takes_a_stream() {
        if route.handler.needs_a_length() {
            request_body::require_length(&request, route.max_body)?;
        }
        return Ok((who, Vec::new(), Some(request)));
    }
    let body = request_body::read(&mut request, route.max_body).await.map_err(|failure| in_words(failure, route))?;
    Ok((who, body, None))
}

/// A body that is too long, in the route's own words where it has them.
fn in_words(failure: Failure, route: &Route<Handler>) -> Failure {
    match (&failure, route.handler.too_large()) {
        (Failure::Refused(refusal), Some(sentence)) if refusal.code == ErrorCode::TooLarge => {
            Refusal::new(refusal.status, refusal.code, sentence).into()
        }
        _ => failure,
    }
}

async fn by_cookie(head: &Head, env: &Env) -> Result<Option<Caller>, Failure> {
    let person = still_admitted::by_cookie(env, head.header("Cookie").as_deref()).await?;
    Ok(person.map(|person| Caller::Person(Box::new(person))))
}

fn require_same_origin(head: &Head, env: &Env) -> Result<(), Refusal> {
    let (origin, site) = (head.header("Origin"), head.header("Sec-Fetch-Site"));
    if WebOrigin::of(env)?.is_same_origin(origin.as_deref(), site.as_deref()) {
        return Ok(());
    }
    Err(Refusal::forbidden("This request does not come from this site. Open the app at its own address and try again."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_get_outside_of_api_is_the_page() {
        for (method, path, credential, expected) in [
            ("GET", "/", false, Destination::App),
            ("HEAD", "/", false, Destination::App),
            ("GET", "/sessions/abc", false, Destination::App),
            ("GET", "/sessions/abc", true, Destination::Api),
            ("POST", "/sessions", false, Destination::Api),
            ("GET", "/internal/webhook-deliveries", false, Destination::App),
            ("GET", "/health", false, Destination::Api),
            ("GET", "/healthz", false, Destination::App),
            ("GET", "/api", false, Destination::Api),
            ("GET", "/api/nothing", false, Destination::Api),
            ("GET", "/apiary", false, Destination::App),
        ] {
            assert_eq!(destination(method, path, credential), expected, "{method} {path}");
        }
    }
}
