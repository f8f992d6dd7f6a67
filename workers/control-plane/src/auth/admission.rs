//! Who may sign in: the deployment's lists, asked at every sign-in.

use oi_worker_kit::vars::Vars;

/// The deployment's lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    users: Vec<String>,
    emails: Vec<String>,
    domains: Vec<String>,
    organizations: Vec<String>,
    everybody: bool,
}

/// What GitHub says about who signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Login.
    pub login: &'a str,
    /// E-mails that GitHub verified.
    pub verified_emails: &'a [String],
}

/// What the lists say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// May sign in.
    Admitted,
    /// May sign in when an active member of one of these organizations.
    IfMemberOf(Vec<String>),
    /// May not.
    Denied,
}

impl AllowList {
    /// From `ALLOWED_USERS`, `ALLOWED_EMAILS`, `ALLOWED_EMAIL_DOMAINS`, `ALLOWED_GITHUB_ORGS` and
    /// `UNSAFE_ALLOW_ALL_USERS`.
    pub fn of(vars: &impl Vars) -> Self {
        Self {
            users: vars.list("ALLOWED_USERS"),
            emails: vars.list("ALLOWED_EMAILS"),
            domains: vars.list("ALLOWED_EMAIL_DOMAINS"),
            organizations: vars.list("ALLOWED_GITHUB_ORGS"),
            everybody: vars.is_true("UNSAFE_ALLOW_ALL_USERS"),
        }
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.emails.is_empty() && self.domains.is_empty() && self.organizations.is_empty()
    }

    /// Whether anybody could ever be admitted through GitHub.
    pub fn can_admit(&self) -> bool {
        self.everybody || !self.is_empty()
    }

    /// Asks the lists. Everybody is admitted only when no list is set.
    pub fn ask(&self, candidate: Candidate<'_>) -> Verdict {
        if self.is_empty() {
            return if self.everybody { Verdict::Admitted } else { Verdict::Denied };
        }
        let emails: Vec<String> = candidate.verified_emails.iter().map(|email| email.to_lowercase()).collect();
        let domain = |email: &String| email.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        let listed = self.users.contains(&candidate.login.to_lowercase())
            || emails.iter().any(|email| self.emails.contains(email))
            || emails.iter().filter_map(domain).any(|domain| self.domains.contains(&domain));
        match (listed, self.organizations.is_empty()) {
            (true, _) => Verdict::Admitted,
            (false, false) => Verdict::IfMemberOf(self.organizations.clone()),
            (false, true) => Verdict::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn ask(vars: &[(&'static str, &'static str)], login: &str, emails: &[&str]) -> Verdict {
        let list = AllowList::of(&vars.iter().copied().collect::<BTreeMap<_, _>>());
        let verified_emails: Vec<String> = emails.iter().map(|email| (*email).to_owned()).collect();
        list.ask(Candidate { login, verified_emails: &verified_emails })
    }

    #[test]
    fn nobody_is_admitted_when_nothing_is_set() {
        assert_eq!(ask(&[], "ada", &["ada@x.org"]), Verdict::Denied);
        assert_eq!(ask(&[("UNSAFE_ALLOW_ALL_USERS", "TRUE")], "ada", &[]), Verdict::Denied);
        assert_eq!(ask(&[("UNSAFE_ALLOW_ALL_USERS", "true")], "ada", &[]), Verdict::Admitted);
    }

    #[test]
    fn a_list_shuts_out_everybody_else() {
        let vars = [("UNSAFE_ALLOW_ALL_USERS", "true"), ("ALLOWED_USERS", " Ada , grace,")];
        assert_eq!(ask(&vars, "ADA", &[]), Verdict::Admitted);
        assert_eq!(ask(&vars, "linus", &["ada@x.org"]), Verdict::Denied);
    }

    #[test]
    fn emails_count_whole_or_by_their_last_domain() {
        assert_eq!(ask(&[("ALLOWED_EMAILS", "Ada@X.org")], "a", &["ada@x.org"]), Verdict::Admitted);
        let vars = [("ALLOWED_EMAIL_DOMAINS", "x.org")];
        assert_eq!(ask(&vars, "a", &["b@y.org", "ada@X.ORG"]), Verdict::Admitted);
        for bad in ["ada@x.org.evil", "ada@sub.x.org", "x.org", "x.org@evil"] {
            assert_eq!(ask(&vars, "a", &[bad]), Verdict::Denied, "{bad}");
        }
    }

    #[test]
    fn organizations_are_asked_last() {
        let vars = [("ALLOWED_GITHUB_ORGS", "acme,Other"), ("ALLOWED_USERS", "ada")];
        assert_eq!(ask(&vars, "ada", &[]), Verdict::Admitted);
        let orgs = vec!["acme".to_owned(), "other".to_owned()];
        assert_eq!(ask(&vars, "linus", &[]), Verdict::IfMemberOf(orgs));
    }
}
