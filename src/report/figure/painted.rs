//! A figure before and after it is painted.

use super::scene::Scene;
use anyhow::{Context, Result};

/// How wide a figure is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// 3.5 inches.
    Column,
    /// 7.16 inches: two columns.
    Page,
}

/// A figure before it is painted.
#[derive(Debug)]
pub struct Figure {
    /// Stem of its files.
    pub stem: String,
    pub title: String,
    /// What is shown and by which rule: sentences.
    pub caption: String,
    pub span: Span,
    pub scene: Scene,
}

/// A figure as the files hold it.
#[derive(Debug)]
pub struct Painted {
    pub stem: String,
    pub title: String,
    pub caption: String,
    pub span: Span,
    pub svg: String,
    pub png: Vec<u8>,
    /// Width and height in canvas units; a column is 720 wide.
    pub size: (u32, u32),
    /// A `tikzpicture`.
    pub tikz: String,
    /// Every text with its box (x0, y0, x1, y1).
    pub texts: Vec<(String, [f64; 4])>,
    /// The box of every marker.
    pub markers: Vec<[f64; 4]>,
}

impl Painted {
    /// Paints it.
    ///
    /// # Errors
    /// Where a picture cannot be drawn.
    pub fn new(f: Figure) -> Result<Self> {
        let why = || format!("cannot draw the figure {}", f.stem);
        Ok(Self {
            svg: f.scene.to_svg().with_context(why)?,
            png: f.scene.to_png().with_context(why)?,
            tikz: f.scene.to_tikz().with_context(why)?,
            size: (f.scene.width, f.scene.height),
            texts: f.scene.texts(),
            markers: f.scene.markers(),
            stem: f.stem,
            title: f.title,
            caption: f.caption,
            span: f.span,
        })
    }
}
