//! Where the session's work started from in each repository: said by the first sandbox that is ready, and pinned then.

use oi_protocol::diff::is_sha;
use oi_protocol::event::RepositoryBaseline;
use oi_protocol::session_state::SessionRepository;

use crate::core::Turn;
use crate::session_row::{load_repositories, save_repository};
use crate::sql::SqlError;

/// Whether a repository that is named somewhere is this one.
pub(crate) fn is_same(repository: &SessionRepository, (position, owner, name): (u32, &str, &str)) -> bool {
    repository.position == position
        && repository.repo_owner.eq_ignore_ascii_case(owner)
        && repository.repo_name.eq_ignore_ascii_case(name)
}

/// Whether the baselines are of the session's repositories: as many, each at its position and with its name.
fn are_of(baselines: &[RepositoryBaseline], repositories: &[SessionRepository]) -> bool {
    baselines.len() == repositories.len()
        && repositories
            .iter()
            .all(|repository| baselines.iter().any(|b| is_same(repository, (b.position, &b.repo_owner, &b.repo_name))))
}

impl Turn<'_, '_> {
    /// Pins what has no baseline yet. Baselines that are not of this session's repositories pin nothing, and one that
    /// is pinned is never moved: the log tells both.
    pub(crate) fn pin_baselines(&mut self, baselines: &[RepositoryBaseline]) -> Result<(), SqlError> {
        let repositories = load_repositories(self.sql)?;
        if !are_of(baselines, &repositories) || !baselines.iter().all(|baseline| is_sha(&baseline.base_sha)) {
            self.out.log.push("baselines do not match the session's repositories".to_owned());
            return Ok(());
        }
        for mut repository in repositories {
            let told = baselines.iter().find(|baseline| baseline.position == repository.position);
            let Some(told) = told.map(|baseline| baseline.base_sha.to_ascii_lowercase()) else { continue };
            match &repository.base_sha {
                None => {
                    repository.base_sha = Some(told);
                    save_repository(self.sql, &repository)?;
                }
                Some(pinned) if *pinned != told => {
                    self.out.log.push(format!("baseline {pinned} of position {} stays", repository.position));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
