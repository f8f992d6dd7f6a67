//! People within the session, and the tokens of their pages.

use oi_protocol::sandbox_socket::{CommandAuthor, GitIdentity};
use oi_protocol::session_state::Author;
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, ParticipantId, UnixMillis, limits};
use serde_json::json;

use crate::call::{CallReply, NewParticipant, Person, Principal};
use crate::clock::Cx;
use crate::core::Turn;
use crate::sql::{Columns, Row, Sql, SqlError, params};
use crate::token;

/// Tokens of one person that are valid at a time; the oldest beyond are revoked.
const TOKENS_PER_PARTICIPANT: i64 = 32;
/// People that are listed, and up to which somebody may be added.
const PARTICIPANTS_MAX: i64 = 1_000;
/// Who created the session, and whom they made one.
const OWNER: &str = "owner";
/// Anybody else.
const MEMBER: &str = "member";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Participant {
    pub id: ParticipantId,
    pub user_id: String,
    pub canonical_user_id: Option<String>,
    pub scm_user_id: Option<String>,
    pub scm_login: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub avatar: Option<String>,
    pub role: String,
    pub joined_at: UnixMillis,
}

const COLUMNS: &str = "id, user_id, canonical_user_id, scm_user_id, scm_login, name, email, avatar, role, joined_at";

impl Participant {
    fn from_row(row: Row) -> Result<Self, SqlError> {
        let mut c = Columns::of(row);
        Ok(Self {
            id: c.word(|text| ParticipantId::parse(text).ok())?,
            user_id: c.text()?,
            canonical_user_id: c.opt_text()?,
            scm_user_id: c.opt_text()?,
            scm_login: c.opt_text()?,
            name: c.opt_text()?,
            email: c.opt_text()?,
            avatar: c.opt_text()?,
            role: c.text()?,
            joined_at: UnixMillis(c.int()?),
        })
    }

    pub fn by_id(sql: &dyn Sql, id: &str) -> Result<Option<Self>, SqlError> {
        let statement = format!("SELECT {COLUMNS} FROM participants WHERE id = ?");
        sql.run(&statement, params![id])?.into_iter().next().map(Self::from_row).transpose()
    }

    pub fn by_user(sql: &dyn Sql, user_id: &str) -> Result<Option<Self>, SqlError> {
        let statement = format!("SELECT {COLUMNS} FROM participants WHERE user_id = ?");
        sql.run(&statement, params![user_id])?.into_iter().next().map(Self::from_row).transpose()
    }

    pub fn all(sql: &dyn Sql) -> Result<Vec<Self>, SqlError> {
        let statement = format!("SELECT {COLUMNS} FROM participants ORDER BY joined_at, id LIMIT {PARTICIPANTS_MAX}");
        sql.run(&statement, &[])?.into_iter().map(Self::from_row).collect()
    }

    /// The person as they will be stored, with what is newly known merged in: what is unknown erases nothing. Nothing is
    /// written before [`Self::save`], so that a refusal leaves no trace of them.
    pub fn prospect(sql: &dyn Sql, cx: &mut Cx<'_>, person: &Person, role: &str) -> Result<Self, SqlError> {
        let base = Self::by_user(sql, &person.user_id)?.unwrap_or_else(|| Self {
            id: ParticipantId::from_bytes(cx.random_id()),
            user_id: person.user_id.clone(),
            canonical_user_id: None,
            scm_user_id: None,
            scm_login: None,
            name: None,
            email: None,
            avatar: None,
            role: role.to_owned(),
            joined_at: cx.now,
        });
        Ok(Self {
            canonical_user_id: person.canonical_user_id.clone().or(base.canonical_user_id),
            scm_user_id: person.scm_user_id.clone().or(base.scm_user_id),
            scm_login: person.scm_login.clone().or(base.scm_login),
            name: person.name.clone().or(base.name),
            email: person.email.clone().or(base.email),
            avatar: person.avatar.clone().or(base.avatar),
            ..base
        })
    }

    /// Adds the person, or writes what is new of them.
    pub fn save(&self, sql: &dyn Sql) -> Result<(), SqlError> {
        let statement = format!(
            "INSERT INTO participants ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (user_id) DO UPDATE SET canonical_user_id = excluded.canonical_user_id,
                scm_user_id = excluded.scm_user_id, scm_login = excluded.scm_login, name = excluded.name,
                email = excluded.email, avatar = excluded.avatar"
        );
        sql.run(
            &statement,
            params![
                self.id.as_str(),
                self.user_id.as_str(),
                self.canonical_user_id.clone(),
                self.scm_user_id.clone(),
                self.scm_login.clone(),
                self.name.clone(),
                self.email.clone(),
                self.avatar.clone(),
                self.role.as_str(),
                self.joined_at.0,
            ],
        )?;
        Ok(())
    }

    /// Finds or adds a person.
    pub fn upsert(sql: &dyn Sql, cx: &mut Cx<'_>, person: &Person, role: &str) -> Result<Self, SqlError> {
        let participant = Self::prospect(sql, cx, person, role)?;
        participant.save(sql)?;
        Ok(participant)
    }

    /// The name to show.
    pub fn display_name(&self) -> String {
        self.name.clone().or_else(|| self.scm_login.clone()).unwrap_or_else(|| self.user_id.clone())
    }

    /// The id that clients see.
    pub fn public_user_id(&self) -> String {
        self.canonical_user_id.clone().unwrap_or_else(|| self.user_id.clone())
    }

    pub fn author(&self) -> Author {
        Author {
            participant_id: self.id.clone(),
            user_id: Some(self.public_user_id()),
            name: self.display_name(),
            avatar: self.avatar.clone(),
        }
    }

    /// Name and address for this person's commits: those that GitHub credits to their account.
    pub fn command_author(&self) -> CommandAuthor {
        let git_identity = match (&self.scm_user_id, &self.scm_login) {
            (Some(id), Some(login)) => GitIdentity::AttributedUser {
                name: self.display_name(),
                email: format!("{id}+{login}@users.noreply.github.com"),
            },
            _ => GitIdentity::AgentOnly,
        };
        CommandAuthor { user_id: self.user_id.clone(), git_identity }
    }
}

/// Longest text about somebody who is added, in UTF-16 units.
const PERSON_TEXT_MAX_UTF16: usize = 300;

impl Turn<'_, '_> {
    /// Refuses an edit to anybody but the people of the session.
    pub(crate) fn refuse_strangers(&self, principal: &Principal, edit: &str) -> Result<Option<CallReply>, SqlError> {
        let Principal::User { user_id } = principal else {
            return Ok(Some(CallReply::refuse(400, ErrorCode::InvalidBody, "userId is required")));
        };
        if Participant::by_user(self.sql, user_id)?.is_some() {
            return Ok(None);
        }
        Ok(Some(CallReply::refuse(403, ErrorCode::Forbidden, format!("Not authorized to {edit}"))))
    }

    /// Adds somebody. What is known of somebody who is here already is theirs to change.
    pub(crate) fn add_participant(
        &mut self,
        principal: &Principal,
        new: &NewParticipant,
    ) -> Result<CallReply, SqlError> {
        let role = new.role.as_deref().unwrap_or(MEMBER);
        let shown = [&new.scm_login, &new.scm_name, &new.scm_email];
        let mut texts = shown.into_iter().flatten().chain([&new.user_id]);
        let fits = texts.all(|text| (1..=PERSON_TEXT_MAX_UTF16).contains(&utf16_len(text.trim())));
        if !fits || !matches!(role, OWNER | MEMBER) {
            return Ok(CallReply::refuse(400, ErrorCode::InvalidBody, "Invalid participant body"));
        }
        if let Some(known) = Participant::by_user(self.sql, &new.user_id)? {
            return Ok(CallReply::json(200, &json!({"id": known.id, "status": "added"})));
        }
        let by = match principal {
            Principal::User { user_id } => Participant::by_user(self.sql, user_id)?,
            Principal::Platform | Principal::Sandbox { .. } => None,
        };
        if role == OWNER && by.is_none_or(|by| by.role != OWNER) {
            return Ok(CallReply::refuse(403, ErrorCode::Forbidden, "Only an owner of the session adds an owner"));
        }
        let count = self.sql.run("SELECT COUNT(*) FROM participants", &[])?;
        let count = count.into_iter().next().map_or(Ok(0), |row| Columns::of(row).int())?;
        if count >= PARTICIPANTS_MAX {
            let sentence = "This session has as many participants as it may";
            return Ok(CallReply::refuse(429, ErrorCode::RateLimited, sentence));
        }
        let person = Person {
            user_id: new.user_id.clone(),
            scm_login: new.scm_login.clone(),
            name: new.scm_name.clone(),
            email: new.scm_email.clone(),
            ..Person::default()
        };
        let added = Participant::upsert(self.sql, self.cx, &person, role)?;
        Ok(CallReply::json(200, &json!({"id": added.id, "status": "added"})))
    }
}

/// Mints a client token: 64 hex digits, of which only the hash is kept.
pub(crate) fn mint_token(sql: &dyn Sql, cx: &mut Cx<'_>, participant: &ParticipantId) -> Result<String, SqlError> {
    let mut bytes = [0_u8; 32];
    cx.rng.fill(&mut bytes);
    let token = hex::encode(bytes);
    sql.run("DELETE FROM client_tokens WHERE expires_at <= ?", params![cx.now.0])?;
    sql.run(
        "INSERT INTO client_tokens (hash, participant_id, expires_at) VALUES (?, ?, ?)",
        params![token::token_hash(&token), participant.as_str(), cx.now.plus(limits::CLIENT_TOKEN_LIFE_MS).0],
    )?;
    sql.run(
        "DELETE FROM client_tokens WHERE participant_id = ?1 AND hash NOT IN
            (SELECT hash FROM client_tokens WHERE participant_id = ?1 ORDER BY expires_at DESC, rowid DESC LIMIT ?2)",
        params![participant.as_str(), TOKENS_PER_PARTICIPANT],
    )?;
    Ok(token)
}

/// Ends all tokens of a person, by either id; says who they are here.
pub(crate) fn revoke_tokens(sql: &dyn Sql, user_id: &str) -> Result<Vec<ParticipantId>, SqlError> {
    let rows = sql
        .run("SELECT id FROM participants WHERE user_id = ?1 OR canonical_user_id = ?1 LIMIT 100", params![user_id])?;
    let found = rows.into_iter().map(|row| Columns::of(row).word(|text| ParticipantId::parse(text).ok()));
    let found: Vec<ParticipantId> = found.collect::<Result<_, _>>()?;
    for participant in &found {
        sql.run("DELETE FROM client_tokens WHERE participant_id = ?", params![participant.as_str()])?;
    }
    Ok(found)
}

/// Why a client token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenRefusal {
    Missing,
    Unknown,
    Expired,
}

impl TokenRefusal {
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "Authentication required",
            Self::Unknown => "Invalid authentication token",
            Self::Expired => "Token expired",
        }
    }
}

/// The person a client token stands for, and when it ends.
pub(crate) fn resolve_token(
    sql: &dyn Sql,
    now: UnixMillis,
    token: &str,
) -> Result<Result<(Participant, UnixMillis), TokenRefusal>, SqlError> {
    if token.is_empty() {
        return Ok(Err(TokenRefusal::Missing));
    }
    let rows = sql.run(
        "SELECT participant_id, expires_at FROM client_tokens WHERE hash = ?",
        params![token::token_hash(token)],
    )?;
    let Some(row) = rows.into_iter().next() else { return Ok(Err(TokenRefusal::Unknown)) };
    let mut c = Columns::of(row);
    let (participant, expires_at) = (c.text()?, c.int()?);
    if now.0 >= expires_at {
        return Ok(Err(TokenRefusal::Expired));
    }
    let participant = Participant::by_id(sql, &participant)?;
    Ok(participant.map(|participant| (participant, UnixMillis(expires_at))).ok_or(TokenRefusal::Unknown))
}
