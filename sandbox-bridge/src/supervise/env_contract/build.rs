//! What a vendor's sandbox is told of an image's build: sandbox.md, section 1.12.

use oi_protocol::local_backend::ImageBuild;

use super::{EnvContractError, Variables};

const CALLBACKS: [&str; 5] = [
    "OI_REPO_IMAGE_BUILD_ID",
    "OI_REPO_IMAGE_CALLBACK_URL",
    "OI_REPO_IMAGE_FAILURE_CALLBACK_URL",
    "OI_REPO_IMAGE_CALLBACK_TOKEN",
    "OI_REPO_IMAGE_PROVIDER_SESSION_ID",
];

const TIMEOUT: &str = "OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS";

/// The build. Where one variable of its callbacks is there, even an empty one, all must be; where none is, nobody is
/// told of its end.
pub(super) fn read(of: Variables<'_>) -> Result<ImageBuild, EnvContractError> {
    if CALLBACKS.iter().any(|name| of.0.contains_key(*name)) {
        for name in CALLBACKS {
            of.required(name)?;
        }
    }
    let [build_id, callback_url, failure_callback_url, callback_token, provider_session_id] =
        CALLBACKS.map(|name| of.present(name).unwrap_or_default());
    let execution_timeout_seconds = match of.0.get(TIMEOUT) {
        Some(text) => {
            let seconds = text.trim().parse().ok().filter(|seconds| *seconds > 0);
            Some(seconds.ok_or(EnvContractError::Malformed(TIMEOUT))?)
        }
        None => None,
    };
    Ok(ImageBuild {
        build_id,
        callback_url,
        failure_callback_url,
        callback_token,
        provider_session_id,
        execution_timeout_seconds,
        clone_token: of.present("VCS_CLONE_TOKEN"),
        clone_username: of.present("VCS_CLONE_USERNAME"),
    })
}
