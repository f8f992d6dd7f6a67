//! Who may sign in and stay: the deployment's lists, asked at every sign-in and at every request.

use std::collections::BTreeMap;

use oi_protocol::UnixMillis;
use oi_worker_kit::mac;
use oi_worker_kit::vars::Vars;

use crate::store::admissions::Facts;

/// What a provider said that admits nobody after this, in ms.
const FACTS_LIFE_MS: i64 = 7 * 86_400_000;

/// The deployment's lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    users: Vec<String>,
    emails: Vec<String>,
    domains: Vec<String>,
    organizations: Vec<String>,
    everybody: bool,
    admin_users: Vec<String>,
    admin_emails: Vec<String>,
}

/// What a provider says about who signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Login at GitHub; other providers have none.
    pub login: Option<&'a str>,
    /// E-mails that the provider verified.
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

/// What the lists say of a person by what is known of all their accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// May stay.
    Admitted,
    /// May not: the lists have none of their accounts.
    Denied,
    /// It has to be asked anew: nothing is known, it is too old, or another organization is listed now.
    Unknown,
}

fn lower(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.to_lowercase()).collect()
}

impl AllowList {
    /// From `ALLOWED_USERS`, `ALLOWED_EMAILS`, `ALLOWED_EMAIL_DOMAINS`, `ALLOWED_GITHUB_ORGS`, `UNSAFE_ALLOW_ALL_USERS`,
    /// `ADMIN_USERS` and `ADMIN_EMAILS`.
    pub fn of(vars: &impl Vars) -> Self {
        Self {
            users: vars.list("ALLOWED_USERS"),
            emails: vars.list("ALLOWED_EMAILS"),
            domains: vars.list("ALLOWED_EMAIL_DOMAINS"),
            organizations: vars.list("ALLOWED_GITHUB_ORGS"),
            everybody: vars.is_true("UNSAFE_ALLOW_ALL_USERS"),
            admin_users: vars.list("ADMIN_USERS"),
            admin_emails: vars.list("ADMIN_EMAILS"),
        }
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.emails.is_empty() && self.domains.is_empty() && self.organizations.is_empty()
    }

    /// Whether anybody could ever be admitted through GitHub.
    pub fn can_admit(&self) -> bool {
        self.everybody || !self.is_empty()
    }

    /// Whether anybody could ever be admitted by their e-mail alone.
    pub fn can_admit_by_email(&self) -> bool {
        !self.emails.is_empty() || !self.domains.is_empty() || (self.is_empty() && self.everybody)
    }

    /// A text that differs when any of the lists does.
    pub fn fingerprint(&self) -> String {
        let lists =
            [&self.users, &self.emails, &self.domains, &self.organizations, &self.admin_users, &self.admin_emails];
        // No entry holds a comma or a line break.
        let text = lists.map(|list| list.join(",")).join("\n");
        mac::sha256_hex(format!("{}\n{text}", self.everybody).as_bytes())[..16].to_owned()
    }

    /// Asks the lists. Everybody is admitted only when no list is set.
    pub fn ask(&self, candidate: Candidate<'_>) -> Verdict {
        if self.is_empty() {
            return if self.everybody { Verdict::Admitted } else { Verdict::Denied };
        }
        let emails = lower(candidate.verified_emails);
        let domain = |email: &String| email.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        let listed = candidate.login.is_some_and(|login| self.users.contains(&login.to_lowercase()))
            || emails.iter().any(|email| self.emails.contains(email))
            || emails.iter().filter_map(domain).any(|domain| self.domains.contains(&domain));
        match (listed, candidate.login.is_none() || self.organizations.is_empty()) {
            (true, _) => Verdict::Admitted,
            (false, false) => Verdict::IfMemberOf(self.organizations.clone()),
            (false, true) => Verdict::Denied,
        }
    }

    /// Whether the deployment names them an admin.
    pub fn names_admin(&self, candidate: Candidate<'_>) -> bool {
        candidate.login.is_some_and(|login| self.admin_users.contains(&login.to_lowercase()))
            || lower(candidate.verified_emails).iter().any(|email| self.admin_emails.contains(email))
    }

    /// The same of what is known of a person's accounts.
    pub fn names_admin_of(&self, facts: &[Facts]) -> bool {
        facts.iter().any(|facts| self.names_admin(candidate(facts)))
    }

    /// Whether a person may stay. One account that is admitted is enough.
    pub fn standing(&self, facts: &[Facts], now: UnixMillis) -> Standing {
        let mut standing = if facts.is_empty() { Standing::Unknown } else { Standing::Denied };
        for known in facts {
            let of_this = if now.0 - known.checked_at > FACTS_LIFE_MS {
                Standing::Unknown
            } else {
                match self.ask(candidate(known)) {
                    Verdict::Admitted => Standing::Admitted,
                    Verdict::Denied => Standing::Denied,
                    Verdict::IfMemberOf(wanted) => by_membership(&wanted, &known.organizations),
                }
            };
            match of_this {
                Standing::Admitted => return Standing::Admitted,
                Standing::Unknown => standing = Standing::Unknown,
                Standing::Denied => {}
            }
        }
        standing
    }
}

fn candidate(facts: &Facts) -> Candidate<'_> {
    Candidate { login: facts.login.as_deref(), verified_emails: &facts.emails }
}

fn by_membership(wanted: &[String], known: &BTreeMap<String, bool>) -> Standing {
    let answers: Vec<Option<bool>> = wanted.iter().map(|organization| known.get(organization).copied()).collect();
    if answers.contains(&Some(true)) {
        Standing::Admitted
    } else if answers.contains(&None) {
        Standing::Unknown
    } else {
        Standing::Denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(vars: &[(&'static str, &'static str)]) -> AllowList {
        AllowList::of(&vars.iter().copied().collect::<BTreeMap<_, _>>())
    }

    fn owned(emails: &[&str]) -> Vec<String> {
        emails.iter().map(|email| (*email).to_owned()).collect()
    }

    fn ask(vars: &[(&'static str, &'static str)], login: &str, emails: &[&str]) -> Verdict {
        list(vars).ask(Candidate { login: Some(login), verified_emails: &owned(emails) })
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

    #[test]
    fn an_account_without_a_login_is_admitted_by_email_only() {
        let ada = owned(&["ada@x.org"]);
        let ask = |vars: &[(&'static str, &'static str)]| {
            let list = list(vars);
            (list.can_admit_by_email(), list.ask(Candidate { login: None, verified_emails: &ada }))
        };
        assert_eq!(ask(&[("ALLOWED_EMAIL_DOMAINS", "x.org")]), (true, Verdict::Admitted));
        for vars in [("ALLOWED_USERS", "ada,ada@x.org"), ("ALLOWED_GITHUB_ORGS", "acme")] {
            assert_eq!(ask(&[vars]), (false, Verdict::Denied), "{vars:?}");
        }
        assert_eq!(ask(&[("UNSAFE_ALLOW_ALL_USERS", "true")]), (true, Verdict::Admitted));
        assert_eq!(ask(&[("UNSAFE_ALLOW_ALL_USERS", "true"), ("ALLOWED_USERS", "a")]), (false, Verdict::Denied));
    }

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn facts(login: Option<&str>, emails: &[&str], organizations: &[(&str, bool)]) -> Facts {
        Facts {
            login: login.map(str::to_owned),
            emails: owned(emails),
            organizations: organizations.iter().map(|(name, member)| ((*name).to_owned(), *member)).collect(),
            checked_at: NOW.0,
        }
    }

    #[test]
    fn a_person_stays_for_as_long_as_the_lists_have_one_of_their_accounts() {
        let ada = facts(Some("Ada"), &["ada@x.org"], &[]);
        let standing = |vars: (&'static str, &'static str), of: &[Facts]| list(&[vars]).standing(of, NOW);
        let users = ("ALLOWED_USERS", "ada");
        assert_eq!(standing(users, std::slice::from_ref(&ada)), Standing::Admitted);
        assert_eq!(standing(("ALLOWED_USERS", "grace"), std::slice::from_ref(&ada)), Standing::Denied);
        assert_eq!(standing(users, &[]), Standing::Unknown);
        let google = facts(None, &["ada@y.org"], &[]);
        assert_eq!(standing(users, &[google.clone(), ada.clone()]), Standing::Admitted);
        assert_eq!(standing(("ALLOWED_EMAILS", "ada@y.org"), &[ada.clone(), google]), Standing::Admitted);
        let old = Facts { checked_at: NOW.0 - FACTS_LIFE_MS - 1, ..ada };
        assert_eq!(standing(users, &[old]), Standing::Unknown, "what was said long ago admits nobody");
    }

    #[test]
    fn an_organization_that_was_not_asked_is_not_known() {
        let of = |organizations: &[(&str, bool)]| {
            let vars = [("ALLOWED_GITHUB_ORGS", "acme,other")];
            list(&vars).standing(&[facts(Some("ada"), &[], organizations)], NOW)
        };
        assert_eq!(of(&[("other", true)]), Standing::Admitted);
        assert_eq!(of(&[("acme", false), ("other", false)]), Standing::Denied);
        assert_eq!(of(&[("acme", false)]), Standing::Unknown);
        assert_eq!(of(&[("elsewhere", true)]), Standing::Unknown);
    }

    #[test]
    fn the_deployment_names_its_first_admins() {
        let named = list(&[("ADMIN_USERS", "Ada"), ("ADMIN_EMAILS", "boss@x.org"), ("ALLOWED_USERS", "grace")]);
        assert!(named.names_admin_of(&[facts(Some("ADA"), &[], &[])]));
        assert!(named.names_admin_of(&[facts(None, &["Boss@X.org"], &[])]));
        assert!(!named.names_admin_of(&[facts(Some("grace"), &["ada@x.org"], &[])]));
        assert!(!named.names_admin_of(&[facts(None, &["ada"], &[])]));
    }

    #[test]
    fn every_list_is_in_the_fingerprint() {
        let mut seen = std::collections::BTreeSet::from([list(&[]).fingerprint()]);
        for name in [
            "ALLOWED_USERS",
            "ALLOWED_EMAILS",
            "ALLOWED_EMAIL_DOMAINS",
            "ALLOWED_GITHUB_ORGS",
            "ADMIN_USERS",
            "ADMIN_EMAILS",
        ] {
            assert!(seen.insert(list(&[(name, "true")]).fingerprint()), "{name}");
        }
        assert!(seen.insert(list(&[("UNSAFE_ALLOW_ALL_USERS", "true")]).fingerprint()));
        assert_eq!(list(&[("ALLOWED_USERS", "a, B")]).fingerprint(), list(&[("ALLOWED_USERS", "A,b")]).fingerprint());
    }
}
