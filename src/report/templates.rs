//! The templates, and what each language needs escaped.
//!
//! They lie in `templates/` and are compiled into the binary; a file of the same name in a folder given by the caller wins. Whatever
//! a template prints is escaped for its language, so that an underscore in a data set's name breaks no table.
//! LaTeX templates use `<% %>`, `<< >>` and `<# #>`, because braces and percent signs mean something there.

use super::text::fixed;
use crate::error::BadInput;
use crate::fsio;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use tera::{Context, Delimiters, Kwargs, State, Tera, TeraResult};

macro_rules! builtin {
    ($($name:literal),+ $(,)?) => { [$(($name, include_str!(concat!("../../templates/", $name)))),+] };
}
const BUILTIN: [(&str, &str); 16] = builtin![
    "table.tex.tera",
    "table.html.tera",
    "card.md.tera",
    "style.html.tera",
    "index.html.tera",
    "figures.html.tera",
    "runs.html.tera",
    "data.html.tera",
    "numbers.tex.tera",
    "paper.tex.tera",
    "standalone.tex.tera",
    "table.md.tera",
    "compare.md.tera",
    "claims.md.tera",
    "summary.md.tera",
    "data.md.tera"
];

/// The engines, one a language.
pub(crate) struct Templates {
    tex: Tera,
    md: Tera,
    html: Tera,
    /// Templates that were not the built-in ones: name → SHA-256.
    pub replaced: BTreeMap<String, String>,
}

/// A sentence for each template of `folder` that replaces a built-in one: whoever reads a page is told that it is not medft's.
///
/// # Errors
/// When a template cannot be read.
pub fn notes(folder: Option<&Path>) -> Result<Vec<String>> {
    let all = Templates::new(folder)?.replaced.into_iter();
    Ok(all
        .map(|(name, hash)| format!("{name} is not medft's own template but one that hashes to {hash} (--templates)."))
        .collect())
}

/// The templates of `folder` that replace built-in ones: name → SHA-256.
///
/// # Errors
/// When a template cannot be read.
pub fn replaced(folder: Option<&Path>) -> Result<BTreeMap<String, String>> {
    Ok(Templates::new(folder)?.replaced)
}

impl Templates {
    /// Loads the built-in templates and those in `folder` that replace them.
    ///
    /// # Errors
    /// [`BadInput`] when a template of the folder does not parse.
    pub(crate) fn new(folder: Option<&Path>) -> Result<Self> {
        let mut tex = Tera::new();
        tex.set_delimiters(Delimiters {
            block_start: "<%".into(),
            block_end: "%>".into(),
            variable_start: "<<".into(),
            variable_end: ">>".into(),
            comment_start: "<#".into(),
            comment_end: "#>".into(),
        })?;
        let mut this = Self {
            tex,
            md: Tera::new(),
            html: Tera::new(),
            replaced: BTreeMap::new(),
        };
        this.tex.autoescape_on([".tex.tera"]);
        this.tex.set_escape_fn(escape_tex);
        this.md.autoescape_on([".md.tera"]);
        this.md.set_escape_fn(escape_md);
        this.html.autoescape_on([".html.tera"]);
        this.md
            .register_filter("yaml", |v: &str, _: Kwargs, _: &State| -> TeraResult<String> {
                // A JSON string is a YAML string in double quotes.
                Ok(serde_json::Value::from(v).to_string())
            });
        this.md
            .register_filter("number", |v: f64, _: Kwargs, _: &State| -> TeraResult<String> {
                Ok(v.to_string())
            });
        for engine in [&mut this.tex, &mut this.md, &mut this.html] {
            engine.register_filter("fixed", |v: f64, args: Kwargs, _: &State| -> TeraResult<String> {
                Ok(fixed(v, args.must_get::<usize>("places")?))
            });
        }
        for (name, builtin) in BUILTIN {
            let own = folder.map(|f| f.join(name)).filter(|p| p.is_file());
            let text = own.as_deref().map(fsio::read_to_string).transpose()?;
            if let Some(text) = &text {
                this.replaced.insert(name.to_owned(), fsio::sha256_hex(text.as_bytes()));
            }
            let engine = match language(name) {
                Language::Tex => &mut this.tex,
                Language::Md => &mut this.md,
                Language::Html => &mut this.html,
            };
            if let Err(e) = engine.add_raw_template(name, text.as_deref().unwrap_or(builtin)) {
                let at = own.map_or_else(|| format!("built-in template {name}"), |p| p.display().to_string());
                return Err(bad_template(at, &e).into());
            }
        }
        Ok(this)
    }

    /// Fills a template with a serialisable context.
    ///
    /// # Errors
    /// [`BadInput`] naming the template that asks for something that is not there.
    pub(crate) fn render<T: Serialize>(&self, name: &str, content: &T) -> Result<String> {
        let context = Context::from_serialize(content).with_context(|| format!("cannot hand data to {name}"))?;
        let engine = match language(name) {
            Language::Tex => &self.tex,
            Language::Md => &self.md,
            Language::Html => &self.html,
        };
        engine
            .render(name, &context)
            .map_err(|e| bad_template(format!("template {name}"), &e).into())
    }
}

enum Language {
    Tex,
    Md,
    Html,
}

fn language(template: &str) -> Language {
    if template.ends_with(".tex.tera") {
        Language::Tex
    } else if template.ends_with(".html.tera") {
        Language::Html
    } else {
        Language::Md
    }
}

fn bad_template(at: String, e: &tera::Error) -> BadInput {
    use std::error::Error as _;
    let cause = e.source().map_or_else(String::new, |s| format!(": {s}"));
    BadInput::new(
        at,
        "a template that can be filled",
        format!("{e}{cause}").replace('\n', " "),
        "Correct it, or remove it to use the built-in one.",
    )
}

/// Text as LaTeX prints it with pdflatex's defaults; a character that these do not know is written by its number.
pub(crate) fn escape_tex(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.write_all(b"\\textbackslash{}")?,
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => write!(out, "\\{c}")?,
            '~' => out.write_all(b"\\textasciitilde{}")?,
            '^' => out.write_all(b"\\textasciicircum{}")?,
            '<' => out.write_all(b"\\textless{}")?,
            '>' => out.write_all(b"\\textgreater{}")?,
            '|' => out.write_all(b"\\textbar{}")?,
            '"' => out.write_all(b"''")?,
            // After `\\` or `\item` these would be read as an optional argument or a star.
            '[' | ']' | '*' => write!(out, "{{{c}}}")?,
            '-' if chars.peek() == Some(&'-') => out.write_all(b"-{}")?,
            '\n' | '\r' | '\t' => out.write_all(b" ")?,
            '\u{a0}' => out.write_all(b"~")?,
            '±' => out.write_all(b"$\\pm$")?,
            '†' => out.write_all(b"\\textsuperscript{\\dag}")?,
            '×' => out.write_all(b"$\\times$")?,
            '·' => out.write_all(b"$\\cdot$")?,
            '−' => out.write_all(b"$-$")?,
            '≤' => out.write_all(b"$\\leq$")?,
            '≥' => out.write_all(b"$\\geq$")?,
            '→' => out.write_all(b"$\\rightarrow$")?,
            'κ' => out.write_all(b"$\\kappa$")?,
            'Δ' => out.write_all(b"$\\Delta$")?,
            '–' => out.write_all(b"--")?,
            '—' => out.write_all(b"---")?,
            '…' => out.write_all(b"\\ldots{}")?,
            '’' => out.write_all(b"'")?,
            '“' => out.write_all(b"``")?,
            '”' => out.write_all(b"''")?,
            'Ð' | 'ð' | 'Þ' | 'þ' | '÷' => write!(out, "\\texttt{{U+{:04X}}}", u32::from(c))?,
            ' '..='~' | 'À'..='ÿ' => write!(out, "{c}")?,
            other => write!(out, "\\texttt{{U+{:04X}}}", u32::from(other))?,
        }
    }
    Ok(())
}

/// Text as GitHub's Markdown prints it, also inside a table.
pub(crate) fn escape_md(text: &str, out: &mut dyn Write) -> io::Result<()> {
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '$' => write!(out, "\\{c}")?,
            '&' => out.write_all(b"&amp;")?,
            '\n' | '\r' | '\t' => out.write_all(b" ")?,
            other => write!(out, "{other}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(f: fn(&str, &mut dyn Write) -> io::Result<()>, text: &str) -> String {
        let mut out = Vec::new();
        f(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn latex_specials() {
        assert_eq!(
            escaped(escape_tex, r"50% of a_b & {c} #1 $x$ ~ ^ \ "),
            r"50\% of a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{} "
        );
        assert_eq!(
            escaped(escape_tex, "run --only [x] ü ± 漢"),
            r"run -{}-only {[}x{]} ü $\pm$ \texttt{U+6F22}"
        );
    }

    #[test]
    fn markdown_specials() {
        assert_eq!(escaped(escape_md, "a|b_c *d* <e>\nf&g"), r"a\|b\_c \*d\* \<e\> f&amp;g");
    }
}
