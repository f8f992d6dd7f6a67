//! Markdown that others wrote, as safe HTML: raw HTML in it is shown as text, and links lead to web pages only.

use maud::{Markup, PreEscaped};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

/// Longest text that is rendered, in bytes; a longer one is cut.
const MAX_BYTES: usize = 256 * 1024;

pub fn render(text: &str) -> Markup {
    let end = text.floor_char_boundary(MAX_BYTES);
    let events = Parser::new_ext(
        &text[..end],
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS,
    )
    .map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: web_only(dest_url), title, id })
        }
        // Pictures would be loaded from anywhere; the policy of the pages forbids it too.
        Event::Start(Tag::Image { link_type, title, id, .. }) => {
            Event::Start(Tag::Image { link_type, dest_url: "".into(), title, id })
        }
        other => other,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    PreEscaped(out)
}

fn web_only(target: CowStr<'_>) -> CowStr<'_> {
    if target.starts_with("https://") || target.starts_with("http://") || target.starts_with('#') {
        target
    } else {
        "".into()
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn what_others_wrote_runs_nothing() {
        for bad in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](  JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>)",
            "<javascript:alert(1)>",
            "![x](http://evil.example/pixel)",
            "[x](<http://a\" onclick=\"alert(1)>)",
            "<div\nonclick=alert(1)>",
        ] {
            let html = render(bad).into_string().to_lowercase();
            for sign in
                ["<script", "<img src=x", "href=\"javascript", "href=\"data", "evil.example", "a\" onclick", "<div"]
            {
                assert!(!html.contains(sign), "{bad:?} became {html:?}");
            }
        }
    }

    #[test]
    fn markdown_is_rendered() {
        let html = render("# T\n\n* a `b`\n\n[l](https://example.com/)").into_string();
        assert_eq!(
            html,
            "<h1>T</h1>\n<ul>\n<li>a <code>b</code></li>\n</ul>\n<p><a href=\"https://example.com/\">l</a></p>\n"
        );
    }
}
