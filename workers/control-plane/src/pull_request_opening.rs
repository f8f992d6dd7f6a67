//! Opening a pull request: as the person who prompted where their token allows it, else as the platform, which names them.

use oi_session::job::{JobResult, OpenPullRequest};
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use worker::Env;

use crate::effects::{Failed, permanent};
use crate::source_control::github::user_tokens::{self, ActingToken};
use crate::source_control::{
    BranchName, Forge, ForgeError, NewPullRequest, Opener, Provider, PullRequest, RepositoryName, SourceControl,
};
use crate::store::{D1, Database};

/// Runs one attempt.
pub(crate) async fn run(env: &Env, open: &OpenPullRequest, look_first: bool) -> Result<JobResult, Failed> {
    self::open(&Forge::of(env)?, &D1::of(env)?, env, open, look_first).await
}

/// The body with who asked for it, when the platform opens it, and where it came from.
fn with_footer(vars: &impl Vars, open: &OpenPullRequest, by_app: bool) -> String {
    let app = vars.get_or("APP_NAME", "Open-Inspect");
    let web = vars.get_or("WEB_APP_URL", "");
    let author = open.author_name.replace(['\n', '\r', '[', ']', '<', '>', '`', '@'], " ");
    let author = author.trim();
    let asked = if by_app && !author.is_empty() { format!("\n\nRequested by {author}.") } else { String::new() };
    let session = &open.session_id;
    format!("{}{asked}\n\n---\n*Created with [{app}]({}/session/{session})*", open.body, web.trim_end_matches('/'))
}

fn opened(pull: PullRequest, updated: bool) -> JobResult {
    JobResult::PullRequestOpened {
        number: pull.number,
        url: pull.url,
        state: pull.state,
        head: pull.head,
        base: pull.base,
        title: pull.title,
        updated,
    }
}

/// Whether the platform may still be allowed what this person was not: their token does not work, or has no such right. A
/// pull request that exists already is no matter of rights.
fn is_about_rights(error: &ForgeError) -> bool {
    match error {
        ForgeError::Status { status: 401 | 403 | 404, .. } => true,
        ForgeError::Status { status: 422, message, .. } => {
            let message = message.to_lowercase();
            message.contains("permission")
                || message.contains("not accessible")
                || message.contains("must be a collaborator")
        }
        _ => false,
    }
}

/// Does something as the person, and as the platform when they may not or have no token. What is done is told whose
/// name the body must hold.
async fn as_person_or_app(
    db: &impl Database,
    person: Option<&ActingToken>,
    act: impl AsyncFn(Opener<'_>, bool) -> Result<PullRequest, ForgeError>,
) -> Result<PullRequest, ForgeError> {
    let Some(person) = person else { return act(Opener::App, true).await };
    match act(Opener::Person(&person.token), false).await {
        Err(error) if is_about_rights(&error) => {
            if error.status() == Some(401)
                && let Err(failure) = user_tokens::end(db, person).await
            {
                Line::error("control-plane", "user_token.not_ended").with("error", failure.to_string()).write();
            }
            act(Opener::App, true).await
        }
        result => result,
    }
}

/// Opens the pull request, or gives the session's own that is open a new title and body.
pub(crate) async fn open(
    forge: &impl SourceControl,
    db: &impl Database,
    vars: &impl Vars,
    open: &OpenPullRequest,
    look_first: bool,
) -> Result<JobResult, Failed> {
    let name = RepositoryName::parse(&open.repo_owner, &open.repo_name)
        .ok_or_else(|| permanent("the repository has no valid name"))?;
    let branch =
        |text: &str| BranchName::parse(text).ok_or_else(|| permanent(format!("`{text}` is not a branch name")));
    let (head, base) = (branch(&open.head)?, branch(&open.base)?);
    if (look_first || open.existing_number.is_some())
        && let Some(found) = forge.open_pull_request_of(&name, &head, &base).await?
    {
        // The session's own one gets the new title and body; one that an earlier attempt opened has them.
        if open.existing_number != Some(found.number) {
            return Ok(opened(found, open.existing_number.is_some()));
        }
        let person = person_token(db, vars, open).await;
        let change = async |opener: Opener<'_>, by_app: bool| {
            let body = with_footer(vars, open, by_app);
            forge.update_pull_request(opener, &name, found.number, &open.title, &body).await
        };
        return Ok(opened(as_person_or_app(db, person.as_ref(), change).await?, true));
    }
    let person = person_token(db, vars, open).await;
    let create = async |opener: Opener<'_>, by_app: bool| {
        let body = with_footer(vars, open, by_app);
        let new = NewPullRequest { title: &open.title, body: &body, head: &head, base: &base, draft: open.draft };
        forge.create_pull_request(opener, &name, new).await
    };
    match as_person_or_app(db, person.as_ref(), create).await {
        Ok(pull) => Ok(opened(pull, false)),
        // It is open already: somebody else's, or ours of an attempt that was not heard of.
        Err(error) if error.status() == Some(422) => match forge.open_pull_request_of(&name, &head, &base).await? {
            Some(found) => Ok(opened(found, true)),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The prompting person's token. Without one that works, the platform acts: that is no failure.
async fn person_token(db: &impl Database, vars: &impl Vars, open: &OpenPullRequest) -> Option<ActingToken> {
    let user_id = open.author_user_id.as_deref()?;
    match user_tokens::acting_token(db, vars, Provider::of(vars).ok()?, user_id).await {
        Ok(token) => token,
        Err(failure) => {
            Line::warn("control-plane", "user_token.unavailable").with("error", failure.to_string()).write();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oi_protocol::SessionId;

    use super::*;

    fn open() -> OpenPullRequest {
        OpenPullRequest {
            session_id: SessionId::from_bytes([1; 16]),
            operation_id: "o".to_owned(),
            repo_owner: "acme".to_owned(),
            repo_name: "app".to_owned(),
            head: "h".to_owned(),
            base: "main".to_owned(),
            title: "t".to_owned(),
            body: "Body.".to_owned(),
            draft: false,
            author_user_id: None,
            author_name: "Ada\n@everyone".to_owned(),
            existing_number: None,
        }
    }

    #[test]
    fn a_pull_request_says_where_it_comes_from() {
        let session = "01".repeat(16);
        let vars = BTreeMap::from([("WEB_APP_URL", "http://127.0.0.1:8787")]);
        let footer = format!("\n\n---\n*Created with [Open-Inspect](http://127.0.0.1:8787/session/{session})*");
        assert_eq!(with_footer(&vars, &open(), false), format!("Body.{footer}"));
        assert_eq!(with_footer(&vars, &open(), true), format!("Body.\n\nRequested by Ada  everyone.{footer}"));
    }

    #[test]
    fn the_app_steps_in_only_where_rights_are_missing() {
        let status = |status, message: &str| ForgeError::Status { status, doing: "x", message: message.to_owned() };
        for error in [status(403, ""), status(404, ""), status(401, ""), status(422, "No permission to create")] {
            assert!(is_about_rights(&error), "{error}");
        }
        for error in [status(422, "A pull request already exists"), status(500, ""), ForgeError::Setup(String::new())] {
            assert!(!is_about_rights(&error), "{error}");
        }
    }
}
