//! Markdown of our own files as HTML for the page: no raw HTML gets through, and no picture is loaded from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};
use std::path::Path;

/// The HTML of a Markdown text that lies in `folder`. Headings begin at level 3, wide tables scroll in their own box, pictures
/// that lie beside the text are put into it, others become their description.
pub fn to_html(text: &str, folder: Option<&Path>) -> String {
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
                if let Some(data) = inline(&dest_url, folder) {
                    events.push(Event::Start(Tag::Image {
                        link_type: LinkType::Inline,
                        dest_url: data.into(),
                        title,
                        id: CowStr::Borrowed(""),
                    }));
                } else {
                    events.push(Event::Start(Tag::Emphasis));
                }
            }
            Event::End(TagEnd::Image) => {
                let open = events.iter().rposition(|e| {
                    matches!(e, Event::Start(Tag::Image { .. } | Tag::Emphasis))
                });
                let image = open.is_some_and(|i| matches!(events[i], Event::Start(Tag::Image { .. })));
                events.push(Event::End(if image { TagEnd::Image } else { TagEnd::Emphasis }));
            }
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                let safe = ["https://", "http://", "#"].iter().any(|s| dest_url.starts_with(s));
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

/// A picture beside the text as a data URI.
fn inline(url: &str, folder: Option<&Path>) -> Option<String> {
    let path = Path::new(url);
    let inside = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let kind = match path.extension()?.to_str()? {
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => return None,
    };
    let bytes = std::fs::read(folder?.join(path).as_path()).ok().filter(|_| inside)?;
    Some(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_html_is_text() {
        let html = to_html("a <script>alert(1)</script> b\n\n<img src=\"http://x/y.png\">\n", None);
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn pictures_come_from_beside_the_text_or_become_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.svg"), "abc").unwrap();
        let html = to_html("![one](a.svg) ![two](https://x/y.png) ![three](../a.svg)", Some(dir.path()));
        assert!(html.contains("src=\"data:image/svg+xml;base64,YWJj\" alt=\"one\""), "{html}");
        assert!(html.contains("<em>two</em>") && html.contains("<em>three</em>"), "{html}");
        assert!(!html.contains("https://x"), "{html}");
    }

    #[test]
    fn headings_fit_below_the_page_and_tables_scroll() {
        let html = to_html("# A\n\n| x |\n| - |\n| 1 |\n\n[go](javascript:x)", None);
        assert!(html.contains("<h3>A</h3>") && html.contains("class=\"scroll\""), "{html}");
        assert!(!html.contains("javascript"), "{html}");
    }
}
