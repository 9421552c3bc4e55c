//! A figure's canvas while it is filled from the top down.

use super::legend::{self, LegendEntry};
use super::scene::{Align, Rgb, Scene, Shape, text_width};
use super::style::{GREY, INK, LABEL_SIZE, TEXT_SIZE, TITLE_SIZE, text};
use crate::report::input::ReportInput;

/// Shapes so far and where the next thing goes.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub width: f64,
    /// Everything above is used.
    pub y: f64,
    pub shapes: Vec<Shape>,
}

impl Sheet {
    /// An empty sheet; in a demo the warning comes first.
    pub(crate) fn new(input: &ReportInput, width: f64) -> Self {
        let mut sheet = Self {
            width,
            y: 8.0,
            shapes: Vec::new(),
        };
        if let Some(warning) = input.warning() {
            sheet.paragraph(warning, TEXT_SIZE, INK);
            sheet.y += 6.0;
        }
        sheet
    }

    /// A centred line in the size of titles.
    pub(crate) fn title(&mut self, content: &str) {
        let size = TITLE_SIZE.min(TITLE_SIZE * (self.width - 24.0) / text_width(content, TITLE_SIZE));
        let at = (self.width / 2.0, self.y + 18.0);
        self.shapes.push(text(at, content, size, INK, Align::Middle));
        self.y += 40.0;
    }

    /// Centred text, broken into lines.
    pub(crate) fn paragraph(&mut self, content: &str, size: f64, colour: Rgb) {
        for line in broken(content, size, self.width - 24.0) {
            let at = (self.width / 2.0, self.y + 0.75 * size);
            self.shapes.push(text(at, &line, size, colour, Align::Middle));
            self.y += 1.35 * size;
        }
    }

    /// A small grey remark.
    pub(crate) fn remark(&mut self, content: &str) {
        self.y += 6.0;
        self.paragraph(content, LABEL_SIZE, GREY);
    }

    /// The legend, each group on lines of its own.
    pub(crate) fn legend(&mut self, groups: Vec<Vec<LegendEntry>>) {
        self.y = legend::draw(groups, self.width, self.y + 4.0, &mut self.shapes);
    }

    /// The finished drawing.
    pub(crate) fn finish(self) -> Scene {
        Scene {
            width: self.width.ceil() as u32,
            height: (self.y + 8.0).ceil() as u32,
            shapes: self.shapes,
        }
    }
}

/// Words in lines that are no wider than `width`; a longer word stands alone.
pub(crate) fn broken(content: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines = Vec::<String>::new();
    for word in content.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
