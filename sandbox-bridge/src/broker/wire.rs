//! Questions that the sandbox's small programs ask the supervisor: one line of JSON each way.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Show people a picture or a recording.
    UploadMedia {
        /// The file, by its absolute path.
        path: String,
        /// `screenshot` or `video`
        kind: String,
        /// The form's other fields, as the control plane names them.
        #[serde(default)]
        fields: BTreeMap<String, String>,
    },
    /// Open a pull request, or update the one that is open.
    CreatePullRequest {
        /// Title.
        title: String,
        /// Text.
        body: String,
        /// Base; the session's when absent.
        #[serde(default)]
        base_branch: Option<String>,
        /// `owner/name`, when the session has several repositories.
        #[serde(default)]
        repo: Option<String>,
        /// As a draft.
        #[serde(default)]
        draft: Option<bool>,
    },
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
    /// Not answered, on purpose.
    Refused {
        /// Why.
        text: String,
    },
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential { .. } => "Credential",
            Self::Nothing => "Nothing",
            Self::Text { .. } => "Text",
            Self::Refused { .. } => "Refused",
        })
    }
}
