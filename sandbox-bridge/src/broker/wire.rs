//! Questions that the sandbox's small programs ask the supervisor: one line of JSON each way.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a file of media is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// A PNG, JPEG or WebP picture of at most 10 MiB.
    Screenshot,
    /// An MP4 recording of at most 100 MiB and 90 s, without sound.
    Video,
}

impl MediaKind {
    /// The session's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Screenshot => "screenshot",
            Self::Video => "video",
        }
    }
}

/// A question.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Question {
    /// A credential for git.
    CredentialGet {
        /// `https`
        protocol: String,
        /// Host, with its port when it has one.
        host: String,
    },
    /// The forge refused the credential.
    CredentialErase {
        /// `https`
        protocol: String,
        /// Host, with its port when it has one.
        host: String,
        /// What was refused. Without it whatever is kept is forgotten.
        #[serde(default)]
        password: Option<String>,
    },
    /// Sign a commit or a tag. The answer's text is the signature.
    SignCommit {
        /// Of the key that git was told of.
        fingerprint: String,
        /// What git signs, in base64.
        payload: String,
    },
    /// Open a pull request, or update the one that is open.
    CreatePullRequest(CreatePullRequest),
    /// Which of the agent's tools there are.
    AgentTools,
    /// Start another session for a piece of work.
    SpawnTask(SpawnTask),
    /// How tasks are, or one of them.
    TaskStatus(TaskStatus),
    /// Another prompt for a task.
    SendTaskPrompt(SendTaskPrompt),
    /// End a task.
    CancelTask(CancelTask),
    /// Tell people in Slack.
    SlackNotify(SlackNotice),
    /// Upload a screenshot or a recording.
    UploadMedia {
        /// In the workspace or the temporary folder.
        path: String,
        /// What it is.
        kind: MediaKind,
        /// `caption`, `sourceUrl`, `viewport`, `durationMs`, …, as the session's form has them.
        #[serde(default)]
        fields: BTreeMap<String, String>,
    },
    /// The command and the variables of a local MCP server. Answered to what the agent started alone.
    McpServer {
        /// The server.
        id: String,
    },
}

/// A pull request to open or to update.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePullRequest {
    /// Title.
    pub title: String,
    /// Text.
    pub body: String,
    /// Base; the session's when absent.
    #[serde(default)]
    pub base_branch: Option<String>,
    /// `owner/name`, when the session has several repositories.
    #[serde(default)]
    pub repo: Option<String>,
    /// As a draft.
    #[serde(default)]
    pub draft: Option<bool>,
}

/// A task to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpawnTask {
    /// Title.
    pub title: String,
    /// What to do.
    pub prompt: String,
    /// `provider/model`; this session's when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// How hard to think.
    #[serde(default)]
    pub reasoning: Option<String>,
}

/// What to tell of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TaskStatus {
    /// The task; all of them when absent.
    #[serde(alias = "childId")]
    pub task_id: Option<String>,
    /// With its last answer.
    pub include_response: bool,
    /// With what it did.
    pub include_trajectory: bool,
    /// Events of a page, 1 to 1000.
    pub trajectory_limit: Option<u32>,
    /// From the page before.
    pub trajectory_cursor: Option<String>,
    /// With all that the events hold.
    pub include_event_data: bool,
}

/// Another prompt for a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendTaskPrompt {
    /// The task.
    #[serde(alias = "childId")]
    pub task_id: String,
    /// The prompt.
    pub prompt: String,
}

const fn yes() -> bool {
    true
}

/// A task to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelTask {
    /// The task.
    #[serde(alias = "childId")]
    pub task_id: String,
    /// And those that it started.
    #[serde(default = "yes")]
    pub cancel_nested: bool,
}

/// A notice to Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackNotice {
    /// Name or id.
    pub channel: String,
    /// Text.
    pub text: String,
    /// The thread to answer in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_ts: Option<String>,
    /// Why; only logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// For git.
    Credential {
        /// User name.
        username: String,
        /// Lives minutes.
        password: String,
    },
    /// Done; there is nothing to say.
    Nothing,
    /// A sentence for the agent or the person.
    Text {
        /// The sentence.
        text: String,
        /// Whether the tool call failed.
        failed: bool,
    },
    /// Which tools there are beyond those that every session has.
    Tools {
        /// There is a repository.
        repository: bool,
        /// Notices to Slack are allowed.
        slack: bool,
    },
    /// A file was uploaded.
    Uploaded {
        /// The artifact.
        artifact_id: String,
        /// Where it is stored.
        object_key: String,
    },
    /// What to become.
    Program {
        /// Program and arguments.
        command: Vec<String>,
        /// Variables beside those that there are.
        variables: BTreeMap<String, String>,
        /// A folder before the others on the PATH.
        #[serde(default)]
        path: Option<String>,
    },
    /// Not answered, on purpose.
    Refused {
        /// Why.
        text: String,
    },
}

impl Answer {
    /// A sentence for the agent or the person.
    pub fn said(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), failed: false }
    }

    /// Why what was asked for did not come about.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), failed: true }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential { .. } => "Credential",
            Self::Nothing => "Nothing",
            Self::Text { .. } => "Text",
            Self::Tools { .. } => "Tools",
            Self::Uploaded { .. } => "Uploaded",
            Self::Program { .. } => "Program",
            Self::Refused { .. } => "Refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_questions_fields_stand_beside_its_name_on_the_wire() {
        for wire in [
            json!({"ask": "create-pull-request", "title": "T", "body": "B", "baseBranch": "dev", "repo": null,
                "draft": true}),
            json!({"ask": "send-task-prompt", "taskId": "c", "prompt": "More"}),
            json!({"ask": "cancel-task", "taskId": "c", "cancelNested": false}),
        ] {
            let question: Question = from_value(wire.clone()).expect("a question");
            assert_eq!(to_value(&question).expect("JSON"), wire);
        }
    }
}
