//! Sandboxes without a session, whose files become images.

use std::sync::Arc;

use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest, LocalBuild};

use super::registry::{CreateError, Registry};

impl Registry {
    /// Makes and starts the sandbox of a build; `false` says that the build was there already.
    pub async fn create_build(
        self: &Arc<Self>,
        request: CreateSandboxRequest,
    ) -> Result<(LocalBuild, bool), CreateError> {
        let BootFrom::Build(build) = &request.boot else {
            return Err(CreateError::WrongBoot("`boot` must have the mode `build`"));
        };
        let build_id = build.build_id.clone();
        if let Some(known) = self.build(&build_id) {
            return Ok((known, false));
        }
        let (_, new) = self.begin(request, Some(build_id.clone())).await?;
        self.build(&build_id).map(|build| (build, new)).ok_or(CreateError::Unknown)
    }

    /// A build.
    pub fn build(&self, build_id: &str) -> Option<LocalBuild> {
        let entries = self.lock();
        let record = entries.values().map(|entry| &entry.record).find(|r| r.build_id.as_deref() == Some(build_id))?;
        let image = self.snapshots.labelled(&build_label(build_id));
        Some(LocalBuild {
            build_id: build_id.to_owned(),
            sandbox: record.sandbox.clone(),
            image_id: image.map(|image| image.image_id),
        })
    }

    /// What a build's supervisor said: its phases and how they ended, never what they printed.
    pub fn build_log(&self, build_id: &str) -> Option<String> {
        let entries = self.lock();
        let entry = entries.values().find(|entry| entry.record.build_id.as_deref() == Some(build_id))?;
        entry.log.as_ref().map(|log| log.text())
    }
}

/// The label of a build's image.
pub fn build_label(build_id: &str) -> String {
    format!("build-{build_id}")
}
