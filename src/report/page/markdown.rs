//! Markdown of our own files as HTML for the page: no raw HTML gets through, and no picture is loaded from elsewhere.

use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};
use std::collections::BTreeMap;

/// The HTML of a Markdown text. Headings begin at level 3, wide tables scroll in their own box, `pictures` (data URIs by
/// name) are put into it, others become their description.
pub(crate) fn to_html(text: &str, pictures: &BTreeMap<String, String>) -> String {
    let mut events = Vec::new();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Html(raw) | Event::InlineHtml(raw) => events.push(Event::Text(raw)),
            Event::Start(Tag::Heading {
                level, classes, attrs, ..
            }) => events.push(Event::Start(Tag::Heading {
                level: lower(level),
                id: None,
                classes,
                attrs,
            })),
            Event::End(TagEnd::Heading(level)) => events.push(Event::End(TagEnd::Heading(lower(level)))),
            Event::Start(Tag::Table(a)) => {
                let open = "<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=\"table\">";
                events.push(Event::Html(open.into()));
                events.push(Event::Start(Tag::Table(a)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(Event::Html("</div>".into()));
            }
            Event::Start(Tag::Image { dest_url, title, .. }) => {
                // A picture that cannot be put in keeps its description, as text.
                if let Some(data) = pictures.get(dest_url.as_ref()) {
                    events.push(Event::Start(Tag::Image {
                        link_type: LinkType::Inline,
                        dest_url: data.clone().into(),
                        title,
                        id: CowStr::Borrowed(""),
                    }));
                } else {
                    events.push(Event::Start(Tag::Emphasis));
                }
            }
            Event::End(TagEnd::Image) => {
                let open = events
                    .iter()
                    .rposition(|e| matches!(e, Event::Start(Tag::Image { .. } | Tag::Emphasis)));
                let image = open.is_some_and(|i| matches!(events[i], Event::Start(Tag::Image { .. })));
                events.push(Event::End(if image { TagEnd::Image } else { TagEnd::Emphasis }));
            }
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                // Addresses, places in the page and files beside it; no `javascript:` and its like.
                let safe =
                    dest_url.starts_with("https://") || dest_url.starts_with("http://") || !dest_url.contains(':');
                let dest_url = if safe { dest_url } else { CowStr::Borrowed("#") };
                events.push(Event::Start(Tag::Link {
                    link_type,
                    dest_url,
                    title,
                    id,
                }));
            }
            other => events.push(other),
        }
    }
    let mut out = String::new();
    html::push_html(&mut out, events.into_iter());
    out
}

fn lower(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 | HeadingLevel::H2 => HeadingLevel::H3,
        HeadingLevel::H3 => HeadingLevel::H4,
        _ => HeadingLevel::H5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_html_is_text() {
        let html = to_html(
            "a <script>alert(1)</script> b\n\n<img src=\"http://x/y.png\">\n",
            &BTreeMap::new(),
        );
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn pictures_come_from_beside_the_text_or_become_words() {
        let pictures = BTreeMap::from([("a.svg".to_owned(), "data:image/svg+xml;base64,YWJj".to_owned())]);
        let html = to_html("![one](a.svg) ![two](https://x/y.png) ![three](../a.svg)", &pictures);
        assert!(
            html.contains("src=\"data:image/svg+xml;base64,YWJj\" alt=\"one\""),
            "{html}"
        );
        assert!(
            html.contains("<em>two</em>") && html.contains("<em>three</em>"),
            "{html}"
        );
        assert!(!html.contains("https://x"), "{html}");
    }

    #[test]
    fn headings_fit_below_the_page_and_tables_scroll() {
        let html = to_html("# A\n\n| x |\n| - |\n| 1 |\n\n[go](javascript:x)", &BTreeMap::new());
        assert!(
            html.contains("<h3>A</h3>") && html.contains("class=\"scroll\""),
            "{html}"
        );
        assert!(!html.contains("javascript"), "{html}");
    }
}
