//! Which forge a deployment has.

use oi_protocol::ErrorCode;
use oi_worker_kit::Refusal;
use oi_worker_kit::vars::Vars;

/// The forge of a deployment, by `SCM_PROVIDER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// github.com or GitHub Enterprise.
    Github,
    /// gitlab.com or a GitLab of one's own.
    Gitlab,
}

impl Provider {
    /// From `SCM_PROVIDER`, whatever its case; `github` when it is not set.
    pub fn of(vars: &impl Vars) -> Result<Self, Refusal> {
        match vars.get_or("SCM_PROVIDER", "github").to_lowercase().as_str() {
            "github" => Ok(Self::Github),
            "gitlab" => Ok(Self::Gitlab),
            other => {
                let sentence = format!("SCM provider '{other}' is not implemented in this deployment.");
                Err(Refusal::new(501, ErrorCode::NotImplemented, sentence))
            }
        }
    }

    /// Its name in the database: the provider of people's identities there.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
        }
    }
}

/// Refuses everything that needs a forge, in a deployment with one that is not known.
pub fn require_forge(vars: &impl Vars) -> Result<(), Refusal> {
    Provider::of(vars).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_deployment_has_one_forge_and_one_that_is_not_known_is_refused() {
        let of =
            |value: &str| Provider::of(&BTreeMap::from([("SCM_PROVIDER", value)])).map_err(|refusal| refusal.status);
        assert_eq!(Provider::of(&BTreeMap::new()), Ok(Provider::Github));
        assert_eq!((of(" GitHub "), of("GITLAB")), (Ok(Provider::Github), Ok(Provider::Gitlab)));
        assert_eq!((of("bitbucket"), of("x")), (Err(501), Err(501)));
    }
}
