//! Environments: made, listed, changed, deleted.

use oi_protocol::EnvironmentId;
use oi_protocol::environments::{
    DESCRIPTION_MAX_UTF16, Environment, EnvironmentAnswer, EnvironmentList, EnvironmentRepository, NAME_MAX_UTF16,
    WORD_MAX_UTF16, WORDS_MAX, WantedRepository,
};
use oi_protocol::text::utf16_len;
use oi_session::call::InitRepository;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, random, reply, request_body};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use worker::Response;

use super::image_builds;
use super::secrets::query_version;
use crate::image_builds::ImageScope;
use crate::image_builds::queue::Message;
use crate::request::Cx;
use crate::session_target::{self, KnownForge};
use crate::source_control::require_forge;
use crate::store::environments::{self, Update};

const SHAPE: &str = "Invalid environment body";
const PAGE: usize = 100;
/// Attempts of a change that names no version and meets others.
const ATTEMPTS: u32 = 4;

/// Whether a key is there, and with which value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Given<T> {
    #[default]
    No,
    Null,
    Yes(T),
}

impl<T> Given<T> {
    /// What becomes of an optional value: it stays, goes, or is another.
    fn over(self, current: Option<T>) -> Option<T> {
        match self {
            Self::No => current,
            Self::Null => None,
            Self::Yes(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for Given<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Yes)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::from)
    }
}

/// The body of a `POST`, and of a `PUT`, which may leave anything out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    name: Given<String>,
    description: Given<String>,
    prebuild_enabled: Given<bool>,
    channel_associations: Given<Vec<String>>,
    repositories: Given<Vec<WantedRepository>>,
    version: Given<i64>,
}

fn at(path: &str, message: impl std::fmt::Display) -> Refusal {
    Refusal::invalid_body(format!("{path}: {message}"))
}

fn name(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    let fits = (1..=NAME_MAX_UTF16).contains(&utf16_len(text)) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(at("name", format_args!("1 to {NAME_MAX_UTF16} characters in one line")))
    }
}

/// A description; a blank one is none.
pub(super) fn description(text: &str) -> Result<Option<String>, Refusal> {
    let text = text.trim();
    if utf16_len(text) > DESCRIPTION_MAX_UTF16 {
        return Err(at("description", format_args!("at most {DESCRIPTION_MAX_UTF16} characters")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A list of words, each once.
pub(super) fn words(path: &str, list: Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut kept: Vec<String> = Vec::new();
    for (index, word) in list.into_iter().enumerate() {
        let word = word.trim();
        if !(1..=WORD_MAX_UTF16).contains(&utf16_len(word)) || word.chars().any(char::is_control) {
            return Err(at(&format!("{path}.{index}"), format_args!("1 to {WORD_MAX_UTF16} characters in one line")));
        }
        if !kept.iter().any(|known| known == word) {
            kept.push(word.to_owned());
        }
    }
    if kept.len() > WORDS_MAX { Err(at(path, format_args!("at most {WORDS_MAX}"))) } else { Ok(kept) }
}

fn channels(given: Given<Vec<String>>) -> Result<Given<Vec<String>>, Refusal> {
    let Given::Yes(list) = given else { return Ok(given) };
    Ok(Some(words("channelAssociations", list)?).filter(|list| !list.is_empty()).into())
}

/// What a body says, checked as far as that needs nobody else.
struct Asked {
    name: Option<String>,
    description: Given<String>,
    prebuild_enabled: Option<bool>,
    channel_associations: Given<Vec<String>>,
    repositories: Option<Vec<session_target::Named>>,
    version: Option<i64>,
}

impl Asked {
    /// Names of the fields that it sets.
    fn fields(&self) -> Vec<&'static str> {
        let all = [
            ("name", self.name.is_some()),
            ("description", self.description != Given::No),
            ("prebuildEnabled", self.prebuild_enabled.is_some()),
            ("channelAssociations", self.channel_associations != Given::No),
            ("repositories", self.repositories.is_some()),
        ];
        all.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect()
    }
}

fn not_null<T>(path: &str, given: Given<T>) -> Result<Option<T>, Refusal> {
    match given {
        Given::No => Ok(None),
        Given::Null => Err(at(path, "cannot be null")),
        Given::Yes(value) => Ok(Some(value)),
    }
}

fn asked(body: Body) -> Result<Asked, Refusal> {
    let described = match body.description {
        Given::Yes(text) => description(&text)?.into(),
        given => given,
    };
    Ok(Asked {
        name: not_null("name", body.name)?.map(|text| name(&text)).transpose()?,
        description: described,
        prebuild_enabled: not_null("prebuildEnabled", body.prebuild_enabled)?,
        channel_associations: channels(body.channel_associations)?,
        repositories: not_null("repositories", body.repositories)?
            .map(|list| session_target::named(&list))
            .transpose()?,
        version: not_null("version", body.version)?,
    })
}

fn members(found: Vec<InitRepository>) -> Vec<EnvironmentRepository> {
    let member = |repository: InitRepository| EnvironmentRepository {
        repo_owner: repository.repo_owner,
        repo_name: repository.repo_name,
        repo_id: Some(repository.repo_id),
        base_branch: repository.base_branch,
    };
    found.into_iter().map(member).collect()
}

fn not_found() -> Refusal {
    Refusal::not_found("Environment not found")
}

fn name_taken(name: &str) -> Failure {
    Refusal::conflict(format!("An environment named \"{name}\" already exists")).into()
}

fn changed_meanwhile() -> Failure {
    Refusal::conflict("The environment was changed meanwhile. Reload it and try again").into()
}

/// The environment that the path names. What cannot be an id is not found.
pub(super) fn environment_id(cx: &Cx<'_>) -> Result<EnvironmentId, Refusal> {
    let segment = cx.parameters.first().map(String::as_str).unwrap_or_default();
    EnvironmentId::parse(segment).map_err(|_| not_found())
}

/// The same, as it is.
pub(super) async fn environment_of(cx: &Cx<'_>) -> Result<Environment, Failure> {
    Ok(environments::get(&cx.db()?, &environment_id(cx)?).await?.ok_or_else(not_found)?)
}

fn log(cx: &Cx<'_>, event: &'static str, id: &EnvironmentId) {
    Line::info("control-plane", event).trace(cx.trace).with("environment_id", id.as_str()).write();
}

/// Its images are built, or what is left of them ended, by the queue.
async fn images_changed(cx: &Cx<'_>, id: &EnvironmentId) {
    image_builds::changed(cx.env, &Message::refresh(&ImageScope::Environment(id.clone()))).await;
}

/// `<created at>:<id>` of the last one of a page.
fn cursor(text: &str) -> Option<(i64, EnvironmentId)> {
    let (at, id) = text.split_once(':')?;
    let at: i64 = at.parse().ok().filter(|at| (0..1 << 52).contains(at))?;
    Some((at, EnvironmentId::parse(id).ok()?))
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let most = match cx.head.query_value("limit") {
        None => PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|most| (1..=PAGE).contains(most))
            .ok_or_else(|| Refusal::invalid_parameter(format!("limit must be a whole number from 1 to {PAGE}")))?,
    };
    let after = match cx.head.query_value("cursor") {
        None => None,
        Some(text) => Some(cursor(&text).ok_or_else(|| Refusal::invalid_parameter("cursor is not of a page"))?),
    };
    let db = cx.db()?;
    let (page, more) = environments::page(&db, after.as_ref().map(|(at, id)| (*at, id.as_str())), most).await?;
    let next_cursor = page.last().filter(|_| more).map(|last| format!("{}:{}", last.created_at.0, last.id));
    reply::json(200, &EnvironmentList { environments: page, total: environments::count(&db).await?, next_cursor })
}

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let asked = asked(request_body::parse(&cx.body, SHAPE)?)?;
    let name = asked.name.ok_or_else(|| at("name", "is required"))?;
    let named = asked.repositories.ok_or_else(|| at("repositories", "is required"))?;
    let found = session_target::resolve(&KnownForge::of(cx.env)?, &named).await?;
    let now = clock::now();
    let environment = Environment {
        id: EnvironmentId::from_bytes(random::bytes()),
        name,
        description: asked.description.over(None),
        prebuild_enabled: asked.prebuild_enabled.unwrap_or(false),
        created_at: now,
        updated_at: now,
        channel_associations: asked.channel_associations.over(None),
        repositories: members(found),
        version: 1,
    };
    let entry = cx.audit("environment.create", "environment", environment.id.as_str());
    let entry = entry.detail(&json!({"name": environment.name}));
    if !environments::insert(&cx.db()?, &environment, &random::hex::<16>(), &entry).await? {
        return Err(name_taken(&environment.name));
    }
    log(cx, "environment.created", &environment.id);
    if environment.prebuild_enabled {
        images_changed(cx, &environment.id).await;
    }
    reply::json(201, &EnvironmentAnswer { environment })
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &EnvironmentAnswer { environment: environment_of(cx).await? })
}

pub(super) async fn update(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let asked = asked(request_body::parse(&cx.body, SHAPE)?)?;
    let mut current = environment_of(cx).await?;
    let found = match &asked.repositories {
        Some(named) => Some(session_target::resolve(&KnownForge::of(cx.env)?, named).await?),
        None => None,
    };
    let entry = cx.audit("environment.update", "environment", current.id.as_str());
    let entry = entry.detail(&json!({"fields": asked.fields()}));
    let db = cx.db()?;
    for _ in 0..ATTEMPTS {
        if asked.version.is_some_and(|version| version != current.version) {
            return Err(changed_meanwhile());
        }
        let next = Environment {
            name: asked.name.clone().unwrap_or(current.name),
            description: asked.description.clone().over(current.description),
            prebuild_enabled: asked.prebuild_enabled.unwrap_or(current.prebuild_enabled),
            channel_associations: asked.channel_associations.clone().over(current.channel_associations),
            repositories: found.clone().map_or(current.repositories, members),
            updated_at: clock::now(),
            version: current.version + 1,
            ..current
        };
        match environments::update(&db, &next, &random::hex::<16>(), &entry).await? {
            Update::Done => {
                log(cx, "environment.updated", &next.id);
                images_changed(cx, &next.id).await;
                return reply::json(200, &EnvironmentAnswer { environment: next });
            }
            Update::NameTaken => return Err(name_taken(&next.name)),
            Update::Gone => return Err(not_found().into()),
            Update::Conflict => current = environment_of(cx).await?,
        }
    }
    Err(changed_meanwhile())
}

pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (id, version, db) = (environment_id(cx)?, query_version(cx)?, cx.db()?);
    let entry = cx.audit("environment.delete", "environment", id.as_str());
    if !environments::delete(&db, &id, version, clock::now(), &entry).await? {
        let there = environments::exists(&db, &id).await?;
        return Err(if there { changed_meanwhile() } else { not_found().into() });
    }
    log(cx, "environment.deleted", &id);
    images_changed(cx, &id).await;
    reply::json(200, &json!({"status": "deleted", "id": id}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &serde_json::Value) -> Result<Asked, Refusal> {
        asked(request_body::parse(body.to_string().as_bytes(), SHAPE)?)
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_null_goes() {
        let nothing = read(&json!({})).expect("fits");
        assert_eq!((nothing.name, nothing.description, nothing.channel_associations), (None, Given::No, Given::No));
        let cleared = read(&json!({"description": null, "channelAssociations": []})).expect("fits");
        assert_eq!(cleared.fields(), ["description", "channelAssociations"]);
        assert_eq!((cleared.description, cleared.channel_associations), (Given::Null, Given::Null));
        let blank = read(&json!({"name": " A ", "description": "  ", "channelAssociations": ["C1", " C1 ", "C2"]}));
        let blank = blank.expect("fits");
        assert_eq!((blank.name.as_deref(), blank.description), (Some("A"), Given::Null));
        assert_eq!(blank.channel_associations, Given::Yes(vec!["C1".to_owned(), "C2".to_owned()]));
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_path() {
        let words = |count: usize| -> Vec<String> { (0..count).map(|n| format!("C{n}")).collect() };
        for (body, sentence) in [
            (json!({"name": null}), "name: "),
            (json!({"name": " "}), "name: "),
            (json!({"name": "a\nb"}), "name: "),
            (json!({"name": "x".repeat(201)}), "name: "),
            (json!({"description": "x".repeat(2_001)}), "description: "),
            (json!({"channelAssociations": [""]}), "channelAssociations.0: "),
            (json!({"channelAssociations": ["a", "x".repeat(65)]}), "channelAssociations.1: "),
            (json!({"channelAssociations": words(51)}), "channelAssociations: "),
            (json!({"repositories": []}), "repositories: "),
            (json!({"repositories": null}), "repositories: "),
            (json!({"repositories": [{"repoOwner": "a", "repoName": ".."}]}), "repositories.0: "),
            (json!({"repositories": [{"repoOwner": "a"}]}), SHAPE),
            (json!({"version": null}), "version: "),
            (json!({"prebuildEnabled": "yes"}), SHAPE),
            (json!({"name": 1}), SHAPE),
        ] {
            let refusal = read(&body).err().expect("does not fit");
            assert!(refusal.status == 400 && refusal.sentence.starts_with(sentence), "{body}: {refusal}");
        }
        assert!(read(&json!({"name": "x".repeat(200), "channelAssociations": words(50)})).is_ok());
    }

    #[test]
    fn a_cursor_is_a_time_and_an_id() {
        assert!(cursor("5:env_a").is_some());
        for bad in ["", "5", "x:env_a", "5:a", "-1:env_a", "99999999999999999:env_a"] {
            assert_eq!(cursor(bad), None, "{bad}");
        }
    }
}
