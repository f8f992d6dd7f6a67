//! Pages of lists: `per_page` (30, at most 100), `page`, and the `Link` header.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header};
use serde::Deserialize;
use serde_json::Value;

const DEFAULT_PER_PAGE: u64 = 30;
const MAX_PER_PAGE: u64 = 100;
/// Highest page that is counted to; beyond it lists are empty anyway.
const MAX_PAGE: u64 = 1_000_000;

/// The query of a list. What isn't a number counts as absent, as on GitHub.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PageQuery {
    per_page: Option<String>,
    page: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub number: u64,
    pub size: u64,
}

impl PageQuery {
    pub fn page(&self) -> Page {
        let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse::<u64>().ok());
        Page {
            number: number(&self.page).unwrap_or(1).clamp(1, MAX_PAGE),
            size: number(&self.per_page).filter(|n| *n > 0).unwrap_or(DEFAULT_PER_PAGE).min(MAX_PER_PAGE),
        }
    }
}

impl Page {
    /// Offset and limit, for SQL.
    pub fn window(self) -> (u64, u64) {
        ((self.number - 1) * self.size, self.size)
    }

    /// The part of a whole list that is this page.
    pub fn of<T>(self, list: Vec<T>) -> Vec<T> {
        let (offset, limit) = self.window();
        list.into_iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(limit as usize).collect()
    }

    /// The answer, with a `Link` header when there are more pages. `base` is the address of the list.
    pub fn answer(self, base: &str, uri: &Uri, total: u64, body: Value) -> Response {
        let mut response = Json(body).into_response();
        let last = total.div_ceil(self.size).max(1);
        let mut links = Vec::new();
        let mut link = |page: u64, relation: &str| {
            links.push(format!("<{base}?{}>; rel=\"{relation}\"", with_page(uri.query().unwrap_or(""), page)));
        };
        if self.number > 1 {
            link((self.number - 1).min(last), "prev");
        }
        if self.number < last {
            link(self.number + 1, "next");
            link(last, "last");
        }
        if self.number > 1 {
            link(1, "first");
        }
        if !links.is_empty()
            && let Ok(value) = HeaderValue::from_str(&links.join(", "))
        {
            response.headers_mut().insert(header::LINK, value);
        }
        response
    }
}

/// The same query with another page number.
fn with_page(query: &str, page: u64) -> String {
    let pairs = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "page");
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .append_pair("page", &page.to_string())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(per_page: &str, page: &str) -> Page {
        PageQuery { per_page: Some(per_page.into()), page: Some(page.into()) }.page()
    }

    #[test]
    fn page_numbers_are_bounded() {
        assert_eq!(query("100", "2").window(), (100, 100));
        assert_eq!(query("1000", "0"), Page { number: 1, size: 100 });
        assert_eq!(query("x", "-1"), Page { number: 1, size: 30 });
        assert_eq!(query("0", "99999999999").number, MAX_PAGE);
    }

    #[test]
    fn links_lead_through_all_pages() {
        let uri: Uri = "/x?per_page=2&state=all&page=2".parse().expect("a valid URI");
        let response = query("2", "2").answer("http://f/x", &uri, 5, Value::Null);
        assert_eq!(
            response.headers()[header::LINK],
            "<http://f/x?per_page=2&state=all&page=1>; rel=\"prev\", \
             <http://f/x?per_page=2&state=all&page=3>; rel=\"next\", \
             <http://f/x?per_page=2&state=all&page=3>; rel=\"last\", \
             <http://f/x?per_page=2&state=all&page=1>; rel=\"first\""
        );
    }
}
