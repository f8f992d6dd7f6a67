//! Merging a pull request's head into its base, without a work tree.

use super::{BranchName, Git, GitError, MAX_OUTPUT_BYTES, Sha};

/// Who makes the merge commit.
#[derive(Debug, Clone)]
pub struct Signature {
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeOutcome {
    Merged(Sha),
    Conflict,
}

impl Git {
    /// Whether the two merge without a conflict, and the tree that comes out.
    pub async fn merge_tree(&self, repository: u64, base: &Sha, head: &Sha) -> Result<Option<Sha>, GitError> {
        let output = self
            .run(
                Some(&self.folder(repository)),
                &["merge-tree", "--write-tree", base.as_str(), head.as_str()],
                None,
                MAX_OUTPUT_BYTES,
            )
            .await?;
        match output.code {
            0 => Ok(Sha::parse(String::from_utf8_lossy(&output.stdout).trim())),
            1 => Ok(None),
            _ => Err(GitError::Failed { command: "merge-tree".into(), stderr: output.stderr }),
        }
    }

    /// Merges `head` into the branch that points to `base`; with `squash`, as one commit with one parent.
    pub async fn merge(
        &self,
        repository: u64,
        branch: &BranchName,
        (base, head): (&Sha, &Sha),
        squash: bool,
        message: &str,
        by: &Signature,
    ) -> Result<MergeOutcome, GitError> {
        let Some(tree) = self.merge_tree(repository, base, head).await? else {
            return Ok(MergeOutcome::Conflict);
        };
        let name = format!("user.name={}", by.name);
        let email = format!("user.email={}", by.email);
        let mut arguments = vec!["-c", &name, "-c", &email, "commit-tree", tree.as_str(), "-p", base.as_str()];
        if !squash {
            arguments.extend(["-p", head.as_str()]);
        }
        arguments.extend(["-F", "-"]);
        let output = self.check(Some(&self.folder(repository)), &arguments, Some(message.as_bytes())).await?;
        let commit = Sha::parse(String::from_utf8_lossy(&output).trim())
            .ok_or_else(|| GitError::Unexpected { command: "commit-tree".into() })?;
        self.update_ref(repository, &branch.full_ref(), &commit, Some(base)).await?;
        Ok(MergeOutcome::Merged(commit))
    }
}
