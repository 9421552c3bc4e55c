//! A paper's claims as statements that numbers can decide: `claims.toml` of its folder.
//!
//! A claim is a sentence of the paper, the reading of it that is tested, and the test. What a test computes is in
//! `report::claims`; here is only what the file may say.

use super::located::{Item, Section, Text};
use super::papers;
use crate::error::BadInput;
use crate::spec::{Freeze, HeadKind};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One statement with the test that decides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub id: String,
    /// What the paper says.
    pub text: String,
    /// Who says so.
    pub source: ClaimSource,
    /// In which words; its own where they are quoted.
    pub sentence: String,
    /// The form in which it is tested.
    pub reading: String,
    /// The smallest effect that matters, in the units of the test, and why it is that one.
    pub smallest: f64,
    pub smallest_reason: String,
    pub test: ClaimTest,
}

/// Who makes a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimSource {
    /// The authors, in the paper's abstract.
    Abstract,
    /// Somebody else, summing the paper up: the abstract does not say it, and the paper's body could not be read.
    ThirdPartySummary,
    /// The authors' tables, as we put it: what their numbers show.
    Tables,
}

impl ClaimSource {
    pub const ALL: &[Self] = &[Self::Abstract, Self::ThirdPartySummary, Self::Tables];
}

impl std::fmt::Display for ClaimSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Abstract => "abstract",
            Self::ThirdPartySummary => "third-party summary",
            Self::Tables => "tables",
        })
    }
}

/// A part of the regimes; `None` is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regimes {
    pub freeze: Option<Freeze>,
    pub head: Option<HeadKind>,
}

impl Regimes {
    /// Whether a regime is one of these.
    pub fn holds(self, freeze: Freeze, head: HeadKind) -> bool {
        self.freeze.is_none_or(|f| f == freeze) && self.head.is_none_or(|h| h == head)
    }
}

/// What is computed; positive effects speak for the claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "test", rename_all = "kebab-case")]
pub enum ClaimTest {
    /// Mean of the backbones of these families minus mean of the others.
    Group { families: Vec<String> },
    /// Lowest mean of these families minus highest mean of the others.
    Top { families: Vec<String> },
    /// `plus` minus `minus`; with `less` also minus the same difference between two other parts.
    Contrast {
        plus: Regimes,
        minus: Regimes,
        less: Option<(Regimes, Regimes)>,
    },
    /// `plus` minus `minus` for every backbone on its own.
    ContrastEveryBackbone { plus: Regimes, minus: Regimes },
    /// (smaller, larger) backbones: the sign of the advantage of size depends on the data set.
    SizeTurns { pairs: Vec<(String, String)> },
    /// The advantage of size grows with the training images of a data set.
    SizeSlope {
        pairs: Vec<(String, String)>,
        images: Vec<(String, f64)>,
    },
    /// The advantage of size grows with the share of one data set's training images that is trained on.
    SizeFraction { pairs: Vec<(String, String)> },
    /// Families published later score higher; months counted from year 0.
    Trend { dates: Vec<(String, f64)> },
}

/// All claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Level after correction over all claims.
    pub alpha: f64,
    pub claims: Vec<Claim>,
}

const TESTS: [&str; 8] = [
    "group",
    "top",
    "contrast",
    "contrast-every-backbone",
    "size-turns",
    "size-slope",
    "size-fraction",
    "trend",
];

impl Claims {
    /// The claims of the papers among the sets of `published` values; none where none of them makes any. Claims of several papers
    /// are one family, at the lowest of their levels.
    ///
    /// # Errors
    /// [`BadInput`] with file and line; where two papers give a claim the same id.
    pub fn of(published: &[String], experiments_dir: &Path) -> Result<Self, BadInput> {
        let mut all = Self {
            alpha: 0.5,
            claims: Vec::new(),
        };
        for key in published {
            let Some((file, text)) = papers::text(experiments_dir, key, "claims.toml")? else {
                continue;
            };
            let more = Self::parse(&file, &text)?;
            if let Some(twice) = more.claims.iter().find(|c| all.claims.iter().any(|d| d.id == c.id)) {
                let found = format!("`{}`, which another paper's claim is called too", twice.id);
                return Err(BadInput::new(
                    file,
                    "every id once",
                    found,
                    "Give the claim another id.",
                ));
            }
            all.alpha = all.alpha.min(more.alpha);
            all.claims.extend(more.claims);
        }
        Ok(all)
    }

    /// Reads claims from `text`; `file` is what messages call it.
    ///
    /// # Errors
    /// [`BadInput`] with file and line.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadInput> {
        let text = Text { file, text };
        let doc = text.parse()?;
        let top = Section::top(text, &doc);
        top.only(&["alpha", "claim"])?;
        let mut claims = Vec::<Claim>::new();
        for section in top.need("claim")?.sections()? {
            let claim = read(&section)?;
            if claims.iter().any(|c| c.id == claim.id) {
                return Err(section.need("id")?.bad("every id once", "Give the claim another id."));
            }
            claims.push(claim);
        }
        Ok(Self {
            alpha: top
                .need("alpha")?
                .real(|x| x > 0.0 && x < 0.5, "a number above 0 and below 0.5")?,
            claims,
        })
    }
}

fn read(section: &Section) -> Result<Claim, BadInput> {
    const ALWAYS: [&str; 8] = [
        "id",
        "text",
        "source",
        "sentence",
        "test",
        "reading",
        "smallest",
        "smallest_reason",
    ];
    let only = |own: &[&str]| section.only(&[&ALWAYS[..], own].concat());
    let test = match section.need("test")?.choice(&TESTS)? {
        "group" => {
            only(&["families"])?;
            ClaimTest::Group {
                families: strings(section, "families")?,
            }
        }
        "top" => {
            only(&["families"])?;
            ClaimTest::Top {
                families: strings(section, "families")?,
            }
        }
        "contrast" => {
            only(&["plus", "minus", "less_plus", "less_minus"])?;
            let less = match (section.get("less_plus"), section.get("less_minus")) {
                (Some(_), _) | (_, Some(_)) => Some((regimes(section, "less_plus")?, regimes(section, "less_minus")?)),
                (None, None) => None,
            };
            ClaimTest::Contrast {
                plus: regimes(section, "plus")?,
                minus: regimes(section, "minus")?,
                less,
            }
        }
        "contrast-every-backbone" => {
            only(&["plus", "minus"])?;
            ClaimTest::ContrastEveryBackbone {
                plus: regimes(section, "plus")?,
                minus: regimes(section, "minus")?,
            }
        }
        "size-turns" => {
            only(&["pairs"])?;
            ClaimTest::SizeTurns { pairs: pairs(section)? }
        }
        "size-slope" => {
            only(&["pairs", "images"])?;
            ClaimTest::SizeSlope {
                pairs: pairs(section)?,
                images: entries(section, "images", |i| i.count(1, 1 << 40).map(|n| n as f64))?,
            }
        }
        "size-fraction" => {
            only(&["pairs"])?;
            ClaimTest::SizeFraction { pairs: pairs(section)? }
        }
        _ => {
            only(&["dates"])?;
            ClaimTest::Trend {
                dates: entries(section, "dates", month)?,
            }
        }
    };
    Ok(Claim {
        id: section.need("id")?.string()?,
        text: section.need("text")?.string()?,
        source: section.need("source")?.choice(ClaimSource::ALL)?,
        sentence: section.need("sentence")?.string()?,
        reading: section.need("reading")?.string()?,
        smallest: section
            .need("smallest")?
            .real(|x| x > 0.0 && x < 1.0, "a number above 0 and below 1")?,
        smallest_reason: section.need("smallest_reason")?.string()?,
        test,
    })
}

fn strings(section: &Section, key: &str) -> Result<Vec<String>, BadInput> {
    section.need(key)?.list(Item::string)
}

fn regimes(section: &Section, key: &str) -> Result<Regimes, BadInput> {
    let part = section.need(key)?.section()?;
    part.only(&["freeze", "head"])?;
    Ok(Regimes {
        freeze: part.get("freeze").map(|i| i.choice(Freeze::ALL)).transpose()?,
        head: part.get("head").map(|i| i.choice(HeadKind::ALL)).transpose()?,
    })
}

fn pairs(section: &Section) -> Result<Vec<(String, String)>, BadInput> {
    section.need("pairs")?.list(|i| {
        let both = i.list(Item::string)?;
        match both.as_slice() {
            [small, large] => Ok((small.clone(), large.clone())),
            _ => Err(i.bad("two backbones, the smaller first", "Name two.")),
        }
    })
}

fn entries(
    section: &Section,
    key: &str,
    value: impl Fn(&Item) -> Result<f64, BadInput>,
) -> Result<Vec<(String, f64)>, BadInput> {
    let items = section.need(key)?.section()?.items();
    items.iter().map(|i| Ok((i.key.clone(), value(i)?))).collect()
}

/// `YYYY-MM` as months.
fn month(item: &Item) -> Result<f64, BadInput> {
    let text = item.string()?;
    let parts = text
        .split_once('-')
        .and_then(|(y, m)| Some((y.parse::<u16>().ok()?, m.parse::<u8>().ok()?)));
    match parts {
        Some((y, m @ 1..=12)) => Ok(f64::from(y) * 12.0 + f64::from(m)),
        _ => Err(item.bad("a month as YYYY-MM", "Correct it.")),
    }
}
