//! Finding a route. Parameters are not percent-decoded: the ids that we mint need none.

use oi_protocol::identity::TokenScope;

use crate::policy::{Policy, TokenUse};

/// Methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// Upper case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// At its path, for services and sandboxes.
    Root,
    /// Below `/api` only, for browsers.
    Api,
    /// At its path, and below `/api`.
    Both,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route<H> {
    /// Method.
    pub method: Method,
    /// Segments; `:name` stands for any one that is not empty.
    pub path: &'static str,
    /// Where it is.
    pub surface: Surface,
    /// Who may call it.
    pub policy: Policy,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// What a personal token needs for it.
    pub token: TokenUse,
    /// What answers.
    pub handler: H,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'r, 'p, H> {
    /// A route, and the segments that its parameters stand for, in order.
    Route(&'r Route<H>, Vec<&'p str>),
    /// The path exists with these methods only.
    OtherMethods(Vec<&'static str>),
    /// Nothing has this path.
    Nothing,
}

impl<H: PartialEq> PartialEq for Route<H> {
    fn eq(&self, other: &Self) -> bool {
        (self.method, self.path) == (other.method, other.path)
    }
}
impl<H: Eq> Eq for Route<H> {}

fn parameters<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut found = Vec::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(found),
            (Some(name), Some(segment)) if name.starts_with(':') && !segment.is_empty() => found.push(segment),
            (Some(name), Some(segment)) if name == segment => {}
            _ => return None,
        }
    }
}

impl<H> Route<H> {
    /// The scope that a personal token needs for it: what the route says, else what follows from who may call it, from
    /// what it changes, and from where it is. `None` when no token will do.
    pub fn token_scope(&self) -> Option<TokenScope> {
        match self.token {
            TokenUse::Derived => Some(self.derived_scope()),
            TokenUse::Needs(scope) => Some(scope),
            TokenUse::Never => None,
        }
    }

    fn derived_scope(&self) -> TokenScope {
        let path = self.path.strip_prefix("/api").unwrap_or(self.path);
        match (self.policy, self.method) {
            (Policy::Admin, _) => TokenScope::Admin,
            (_, Method::Get) => TokenScope::Read,
            _ if path == "/sessions" || path.starts_with("/sessions/") => TokenScope::Sessions,
            _ => TokenScope::Settings,
        }
    }

    fn at<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let below_api = path.strip_prefix("/api").filter(|rest| rest.starts_with('/'));
        match (self.surface, below_api) {
            (Surface::Root | Surface::Both, None) | (Surface::Api, Some(_)) => parameters(self.path, path),
            (Surface::Both, Some(rest)) => parameters(self.path, rest),
            (Surface::Root, Some(_)) | (Surface::Api, None) => None,
        }
    }
}

/// Finds the route of a request. Of patterns that fit one path, that with the fewest parameters has it.
pub fn find<'r, 'p, H>(routes: &'r [Route<H>], method: &str, path: &'p str) -> Found<'r, 'p, H> {
    let fitting: Vec<_> = routes.iter().filter_map(|route| Some((route, route.at(path)?))).collect();
    let Some(fewest) = fitting.iter().map(|(_, parameters)| parameters.len()).min() else { return Found::Nothing };
    let mut others = Vec::new();
    for (route, parameters) in fitting.into_iter().filter(|(_, parameters)| parameters.len() == fewest) {
        if route.method.as_str() == method {
            return Found::Route(route, parameters);
        }
        others.push(route.method.as_str());
    }
    Found::OtherMethods(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{Handler, ROUTES};

    fn found(method: &str, path: &str) -> Result<(Handler, Vec<String>), Vec<&'static str>> {
        match find(ROUTES, method, path) {
            Found::Route(route, parameters) => Ok((route.handler, parameters.into_iter().map(str::to_owned).collect())),
            Found::OtherMethods(methods) => Err(methods),
            Found::Nothing => Err(vec![]),
        }
    }

    #[test]
    fn paths_lead_to_their_handlers() {
        assert_eq!(found("GET", "/health"), Ok((Handler::Health, vec![])));
        assert_eq!(found("GET", "/sessions/abc"), Ok((Handler::SessionSnapshot, vec!["abc".to_owned()])));
        assert_eq!(found("GET", "/api/sessions/abc"), Ok((Handler::SessionSnapshot, vec!["abc".to_owned()])));
        assert_eq!(found("GET", "/sessions/a%2Fb"), Ok((Handler::SessionSnapshot, vec!["a%2Fb".to_owned()])));
        assert_eq!(found("DELETE", "/sessions"), Err(vec!["POST", "GET"]));
        assert_eq!(found("GET", "/sessions/inbox").map(|(_, parameters)| parameters), Ok(vec![]));
        assert_eq!(found("DELETE", "/sessions/inbox"), Err(vec!["GET"]), "it is no session");
    }

    #[test]
    fn what_is_not_in_the_table_is_not_there() {
        for path in [
            "",
            "/",
            "/healthz",
            "/health/",
            "/sessions//title",
            "/sessions/",
            "/sessions/a/b/c",
            "/apisessions",
            "/api",
            "/api/health",
            "/api/api/config",
            "/config",
            "/auth/get-session",
            "/api/internal/webhook-deliveries",
            "/api/sessions/a/scm-credentials",
        ] {
            assert_eq!(found("GET", path), Err(vec![]), "{path}");
        }
    }
}
