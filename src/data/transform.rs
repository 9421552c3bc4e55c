//! From decoded pixels to network input (PROTOCOL section 2).
//!
//! The way is cut in two. [`Preparation`] is everything that is the same in every epoch: loading, the first resize and the
//! centre crop (only the pixels inside the crop are computed). Its result is 8-bit and of one size, which is what a cache
//! can hold. [`Transform`] adds what differs: for validation and test nothing but the normalisation, for training a
//! [`View`] drawn from the image's own random stream.

use super::pil::{self, Window};
use super::{Folder, ImageArray, Pixels, Sample, decode};
use crate::error::BadInput;
use crate::rng::Stream;
use crate::study::Protocol;
use crate::study::protocol::{Aspect, Augment, ImageLoading, PngTwin, ResizeOrder};
use anyhow::Result;
use serde::Serialize;
use std::borrow::Cow;
use std::path::Path;

/// The deterministic part: file → `side × side × channels` 8-bit pixels. Serialised, it is part of a cache's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preparation {
    channels: usize,
    image_loading: ImageLoading,
    png_twin: PngTwin,
    resize: usize,
    crop: usize,
    aspect: Aspect,
    order: ResizeOrder,
}

impl Preparation {
    /// From the protocol's switches, for a data set of 1 or 3 channels.
    ///
    /// # Errors
    /// [`BadInput`] when the crop is empty or larger than the resized image.
    pub fn new(p: &Protocol, channels: usize) -> Result<Self> {
        let (small, large) = match p.aspect {
            Aspect::Pad => (p.resize, p.crop),
            _ => (p.crop, p.resize),
        };
        if small == 0 || small > large || large > 1 << 14 {
            return Err(BadInput::new(
                "protocol",
                "0 < crop ≤ resize ≤ 16384, or for aspect = \"pad\" 0 < resize ≤ crop ≤ 16384",
                format!("crop = {}, resize = {}", p.crop, p.resize),
                "Correct the sizes in the study.",
            )
            .into());
        }
        if !matches!(channels, 1 | 3) {
            let found = format!("{channels}");
            return Err(BadInput::new("data set", "1 or 3 channels", found, "Correct the data set.").into());
        }
        Ok(Self {
            channels,
            image_loading: p.image_loading,
            png_twin: p.png_twin,
            resize: p.resize as usize,
            crop: p.crop as usize,
            aspect: p.aspect,
            order: p.resize_order,
        })
    }

    /// Channels of a prepared image: 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Side of a prepared image in pixels: of the crop, or of what zeros are put around.
    pub fn side(&self) -> usize {
        match self.aspect {
            Aspect::Pad => self.resize,
            _ => self.crop,
        }
    }

    /// Bytes of a prepared image: `side · side · channels`.
    pub fn bytes(&self) -> usize {
        self.side() * self.side() * self.channels
    }

    /// The file that is read for `file` of a data set, with the twin rule (Q44).
    pub fn resolve<'a>(&self, root: &Folder, file: &'a Path) -> Cow<'a, Path> {
        decode::resolve(root, file, self.png_twin)
    }

    /// Resize and centre crop. Panics on an image without pixels.
    pub fn apply(&self, img: &ImageArray) -> ImageArray {
        let converted = (img.channels != self.channels).then(|| pil::to_channels(img.clone(), self.channels));
        let img = converted.as_ref().unwrap_or(img);
        let (width, height) = match self.aspect {
            Aspect::Squash | Aspect::Pad => (self.resize, self.resize),
            Aspect::ShortSide => pil::short_side_size(img.width, img.height, self.resize),
        };
        let window = pil::centre_window(width, height, self.side());
        pil::resize_window(img, width, height, self.order, window)
    }

    /// Decodes an image file's bytes and prepares them.
    ///
    /// # Errors
    /// [`decode::Fault`] when they are no whole image.
    pub fn decode(&self, bytes: &[u8]) -> Result<ImageArray, decode::Fault> {
        Ok(self.apply(&decode::decode(bytes, self.channels, self.image_loading)?))
    }

    /// Loads and prepares one sample of the data set in `root`.
    ///
    /// # Errors
    /// [`BadInput`] naming the file (or the sample, for pixels that came in an array).
    pub fn open(&self, root: &Folder, sample: &Sample) -> Result<ImageArray> {
        match &sample.pixels {
            Pixels::File(file) => {
                let img = decode::open(root, file, self.channels, self.image_loading, self.png_twin)?;
                Ok(self.apply(&img))
            }
            Pixels::Array(img) => {
                let size = img.width * img.height * img.channels;
                if size == 0 || img.data.len() != size || !matches!(img.channels, 1 | 3) {
                    let found = format!(
                        "{} × {} × {} with {} bytes",
                        img.height,
                        img.width,
                        img.channels,
                        img.data.len()
                    );
                    let remedy = "Get the data set again from its source.";
                    return Err(BadInput::new(&sample.id, "height × width × 1 or 3 pixels", found, remedy).into());
                }
                Ok(self.apply(img))
            }
        }
    }
}

/// A [`Preparation`] with the augmentation and the normalisation that follow it.
#[derive(Debug, Clone)]
pub struct Transform {
    preparation: Preparation,
    augment: Augment,
    crop_scale: [f64; 2],
    /// For each channel the float32 of each 8-bit value: torchvision's `x / 255`, then `(x − mean) / std`.
    tables: Vec<[f32; 256]>,
}

impl Transform {
    /// From the protocol's switches and the statistics of `mean.len()` channels (of values in 0..1).
    ///
    /// # Errors
    /// [`BadInput`] for sizes or statistics that make no sense.
    pub fn new(p: &Protocol, mean: &[f32], std: &[f32]) -> Result<Self> {
        let preparation = Preparation::new(p, mean.len())?;
        let sane = |v: &&f32| v.is_finite() && **v > 0.0;
        if std.len() != mean.len() || std.iter().filter(sane).count() != std.len() {
            let found = format!("{std:?} for {} channels", mean.len());
            let remedy = "Correct the statistics of the data set or backbone.";
            return Err(BadInput::new("normalisation", "a positive std for each channel", found, remedy).into());
        }
        let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        let plain = Self {
            preparation,
            augment: Augment::None,
            crop_scale: [1.0; 2],
            tables: mean.iter().zip(std).map(table).collect(),
        };
        plain.viewed_by(p)
    }

    /// The same preparation and normalisation, with the training views of `p`.
    ///
    /// # Errors
    /// [`BadInput`] for areas that make no sense.
    pub fn viewed_by(&self, p: &Protocol) -> Result<Self> {
        let [low, high] = p.crop_scale;
        if !(0.0 < low && low <= high && high.is_finite()) {
            let found = format!("{:?}", p.crop_scale);
            let remedy = "Correct crop_scale in the study.";
            return Err(BadInput::new("protocol", "0 < crop_scale[0] ≤ crop_scale[1]", found, remedy).into());
        }
        Ok(Self {
            augment: p.augment,
            crop_scale: p.crop_scale,
            ..self.clone()
        })
    }

    /// The deterministic part.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// Side of the network's input in pixels.
    pub fn side(&self) -> usize {
        self.preparation.crop
    }

    /// Floats of one image: channels · side · side.
    pub fn len(&self) -> usize {
        self.side() * self.side() * self.preparation.channels
    }

    /// Never: an image has at least one pixel.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The deterministic part: what [`Transform::finish_val`] and [`Transform::finish_train`] take. See [`Preparation::apply`].
    pub fn prepare(&self, img: &ImageArray) -> ImageArray {
        self.preparation.apply(img)
    }

    /// A prepared image as validation and test see it: `out` is (C, side, side), [`Transform::len`] floats.
    pub fn finish_val(&self, img: &ImageArray, out: &mut [f32]) {
        assert_eq!(img.data.len(), self.preparation.bytes(), "a prepared image");
        self.normalise(img, out);
    }

    /// A prepared image as one epoch of training sees it; all random numbers come from `stream`.
    pub fn finish_train(&self, img: &ImageArray, stream: &mut Stream, out: &mut [f32]) {
        assert_eq!(img.data.len(), self.preparation.bytes(), "a prepared image");
        match View::draw(self.augment, self.preparation.side(), self.crop_scale, stream) {
            None => self.normalise(img, out),
            Some(view) => self.normalise(&view.apply(img), out),
        }
    }

    /// (H, W, C) bytes to (C, H, W) floats.
    fn normalise(&self, img: &ImageArray, out: &mut [f32]) {
        assert_eq!(out.len(), self.len(), "a slot of one image");
        let (inner, side) = (self.preparation.side(), self.side());
        if inner < side {
            // Half of the zeros on either side, the odd one behind, as torchvision's Pad is called by those who pad so.
            let before = (side - inner) / 2;
            out.fill(0.0);
            for (c, (table, plane)) in self.tables.iter().zip(out.chunks_exact_mut(side * side)).enumerate() {
                let rows = plane.chunks_exact_mut(side).skip(before);
                for (row, pixels) in rows.zip(img.data.chunks_exact(inner * img.channels)) {
                    let values = pixels.iter().skip(c).step_by(img.channels);
                    for (out, &v) in row[before..].iter_mut().zip(values) {
                        *out = table[usize::from(v)];
                    }
                }
            }
            return;
        }
        match self.tables.as_slice() {
            [table] => {
                for (out, &v) in out.iter_mut().zip(&img.data) {
                    *out = table[usize::from(v)];
                }
            }
            tables => {
                let pixels = img.data.as_chunks::<3>().0;
                for ((table, out), c) in tables.iter().zip(out.chunks_exact_mut(pixels.len())).zip(0..) {
                    for (out, px) in out.iter_mut().zip(pixels) {
                        *out = table[usize::from(px[c as usize])];
                    }
                }
            }
        }
    }
}

/// One random view of an image, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What RandomResizedCrop cuts out.
    pub crop: Window,
    pub flip_vertical: bool,
    pub flip_horizontal: bool,
    pub jitter: Option<Jitter>,
}

/// One draw of torchvision's ColorJitter.
#[derive(Debug, Clone, PartialEq)]
pub struct Jitter {
    /// Order of the operations: 0 brightness, 1 contrast, 2 saturation, 3 hue.
    pub order: [u8; 4],
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    pub hue: f64,
}

impl View {
    /// Draws a view of a `side × side` image; `None` when the protocol augments nothing.
    pub fn draw(augment: Augment, side: usize, scale: [f64; 2], stream: &mut Stream) -> Option<Self> {
        let full = match augment {
            Augment::None => return None,
            Augment::NoVerticalFlipNoJitter => false,
            Augment::Paper => true,
        };
        Some(Self {
            crop: CropDraw::new(side, scale, stream).window,
            flip_vertical: full && stream.uniform() < 0.5,
            flip_horizontal: stream.uniform() < 0.5,
            jitter: (full && stream.uniform() <= 0.8).then(|| Jitter::draw(stream)),
        })
    }

    /// The pixels of this view of a square image.
    pub fn apply(&self, img: &ImageArray) -> ImageArray {
        self.apply_to(img, img.width)
    }

    /// As [`View::apply`], with another size of the result: `side × side` pixels.
    pub fn apply_to(&self, img: &ImageArray, side: usize) -> ImageArray {
        // A crop is never larger than its result, so both sides grow and all versions of Pillow begin with the width.
        let mut img = pil::resized_crop(img, self.crop, side, side, ResizeOrder::WidthFirst);
        if self.flip_vertical {
            pil::flip_vertical(&mut img);
        }
        if self.flip_horizontal {
            pil::flip_horizontal(&mut img);
        }
        if let Some(jitter) = &self.jitter {
            jitter.apply(&mut img);
        }
        img
    }
}

impl Jitter {
    fn draw(stream: &mut Stream) -> Self {
        let mut order = [0, 1, 2, 3];
        stream.shuffle(&mut order);
        Self {
            order,
            brightness: stream.uniform_in(0.8, 1.2),
            contrast: stream.uniform_in(0.8, 1.2),
            saturation: stream.uniform_in(0.9, 1.1),
            hue: stream.uniform_in(-0.1, 0.1),
        }
    }

    fn apply(&self, img: &mut ImageArray) {
        for op in self.order {
            match op {
                0 => pil::brightness(img, self.brightness),
                1 => pil::contrast(img, self.contrast),
                2 => pil::saturation(img, self.saturation),
                _ => pil::hue(img, self.hue),
            }
        }
    }
}

/// torchvision's RandomResizedCrop parameters for a square image and ratios 3/4 to 4/3.
#[derive(Debug, Clone, PartialEq)]
pub struct CropDraw {
    pub window: Window,
    /// Attempts made, 1 to 10.
    pub attempts: u32,
    /// Whether one of them was accepted; if not, the window is the whole image.
    pub accepted: bool,
}

impl CropDraw {
    /// Up to ten attempts to find a crop that fits. With a `scale` above 1 (Q20) most do not: areas beyond the image are
    /// drawn and refused, which is part of the published augmentation.
    pub fn new(side: usize, scale: [f64; 2], stream: &mut Stream) -> Self {
        let area = (side * side) as f64;
        let ratio = [libm::log(3.0 / 4.0), libm::log(4.0 / 3.0)];
        for attempts in 1..=10 {
            let target = area * stream.uniform_in(scale[0], scale[1]);
            let aspect = libm::exp(stream.uniform_in(ratio[0], ratio[1]));
            let width = (target * aspect).sqrt().round_ties_even() as usize;
            let height = (target / aspect).sqrt().round_ties_even() as usize;
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let mut offset = |room: usize| stream.below(room as u32 + 1) as usize;
                let (top, left) = (offset(side - height), offset(side - width));
                let window = Window {
                    left,
                    top,
                    width,
                    height,
                };
                return Self {
                    window,
                    attempts,
                    accepted: true,
                };
            }
        }
        Self {
            window: Window::whole(side, side),
            attempts: 10,
            accepted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn noise(width: usize, height: usize, channels: usize) -> ImageArray {
        let mut s = Stream::new(3, Purpose::Test, 0, 0);
        ImageArray {
            width,
            height,
            channels,
            data: (0..width * height * channels).map(|_| s.next_u32() as u8).collect(),
        }
    }

    /// The law that was measured on torchvision with 40,000 draws (PROTOCOL section 2); as many draws here.
    #[test]
    fn the_crop_has_torchvisions_law() {
        let n = 40_000;
        let draws: Vec<_> = (0..n)
            .map(|i| CropDraw::new(224, [0.8, 1.2], &mut Stream::new(1, Purpose::Augment, 0, i)))
            .collect();
        let accepted = draws.iter().filter(|d| d.accepted).count() as f64;
        let attempts: u32 = draws.iter().map(|d| d.attempts).sum();
        let rate = accepted / f64::from(attempts);
        assert!((rate - 0.194).abs() < 0.004, "acceptance rate {rate}");
        let whole = 1.0 - accepted / f64::from(n);
        assert!((whole - 0.118).abs() < 0.006, "whole frames {whole}");
        let mut areas: Vec<f64> = draws
            .iter()
            .map(|d| (d.window.width * d.window.height) as f64 / 50176.0)
            .collect();
        areas.sort_by(f64::total_cmp);
        let mean = areas.iter().sum::<f64>() / f64::from(n);
        assert!((mean - 0.882).abs() < 0.002, "mean area {mean}");
        for (q, expected) in [(0.05, 0.805), (0.25, 0.830), (0.5, 0.868), (0.75, 0.924), (0.95, 1.0)] {
            let found = areas[(q * f64::from(n)) as usize];
            assert!((found - expected).abs() < 0.004, "area at {q}: {found}");
        }
        for d in &draws {
            let aspect = d.window.width as f64 / d.window.height as f64;
            assert!(d.window.fits(224, 224) && (0.795..1.26).contains(&aspect), "{d:?}");
        }
    }

    /// Rates and ranges of the other draws: flips 1/2 each, jitter 4/5, 24 orders, factors inside their ranges.
    #[test]
    fn views_follow_the_protocol() {
        let views: Vec<_> = (0..12_000)
            .map(|i| {
                View::draw(
                    Augment::Paper,
                    224,
                    [0.8, 1.2],
                    &mut Stream::new(2, Purpose::Augment, 5, i),
                )
                .unwrap()
            })
            .collect();
        let share = |f: &dyn Fn(&View) -> bool| views.iter().filter(|v| f(v)).count() as f64 / views.len() as f64;
        assert!((share(&|v| v.flip_vertical) - 0.5).abs() < 0.02);
        assert!((share(&|v| v.flip_horizontal) - 0.5).abs() < 0.02);
        assert!((share(&|v| v.flip_horizontal && v.flip_vertical) - 0.25).abs() < 0.02);
        assert!((share(&|v| v.jitter.is_some()) - 0.8).abs() < 0.02);
        let mut orders = std::collections::BTreeMap::new();
        for j in views.iter().filter_map(|v| v.jitter.as_ref()) {
            *orders.entry(j.order).or_insert(0) += 1;
            assert!((0.8..1.2).contains(&j.brightness) && (0.8..1.2).contains(&j.contrast));
            assert!((0.9..1.1).contains(&j.saturation) && (-0.1..0.1).contains(&j.hue));
        }
        assert_eq!(orders.len(), 24);
        assert!(orders.values().all(|n| (300..500).contains(n)), "{orders:?}");
    }

    #[test]
    fn switches_of_the_augmentation() {
        let mut stream = Stream::new(0, Purpose::Augment, 0, 0);
        assert_eq!(View::draw(Augment::None, 64, [0.8, 1.0], &mut stream), None);
        for i in 0..200 {
            let mut stream = Stream::new(0, Purpose::Augment, 0, i);
            let view = View::draw(Augment::NoVerticalFlipNoJitter, 64, [0.8, 1.0], &mut stream).unwrap();
            assert!(!view.flip_vertical && view.jitter.is_none());
        }
        // Without augmentation training sees what validation sees.
        let p = Protocol {
            augment: Augment::None,
            ..Protocol::faithful()
        };
        let t = Transform::new(&p, &[0.5], &[0.25]).unwrap();
        let img = t.prepare(&noise(300, 200, 1));
        let (mut a, mut b) = (vec![0.0; t.len()], vec![1.0; t.len()]);
        t.finish_val(&img, &mut a);
        t.finish_train(&img, &mut stream, &mut b);
        assert_eq!(a, b);
    }

    /// Zeros stand where the network sees zeros: around the normalised image, 98 pixels of a 28-pixel one on every side; nothing is
    /// enlarged, and grey is three copies under three channels' statistics.
    #[test]
    fn padding_puts_zeros_around_the_normalised_image() {
        let p = Protocol {
            aspect: Aspect::Pad,
            resize: 28,
            crop: 224,
            augment: Augment::None,
            ..Protocol::faithful()
        };
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let t = Transform::new(&p, &mean, &std).unwrap();
        assert_eq!(
            (t.side(), t.len(), t.preparation().bytes()),
            (224, 3 * 224 * 224, 28 * 28 * 3)
        );
        for channels in [1, 3] {
            let img = noise(28, 28, channels);
            let mut seen = vec![9.0; t.len()];
            t.finish_val(&t.prepare(&img), &mut seen);
            for (c, plane) in seen.chunks_exact(224 * 224).enumerate() {
                for (at, &v) in plane.iter().enumerate() {
                    let (y, x) = (at / 224, at % 224);
                    let inside = (98..126).contains(&y) && (98..126).contains(&x);
                    let want = match inside {
                        false => 0.0,
                        true => {
                            let from = ((y - 98) * 28 + x - 98) * channels + if channels == 3 { c } else { 0 };
                            (f32::from(img.data[from]) / 255.0 - mean[c]) / std[c]
                        }
                    };
                    assert_eq!(v, want, "channel {c} at {y}, {x}");
                }
            }
        }
        // At full size nothing is padded, and an odd zero stands behind.
        let whole = Protocol {
            resize: 224,
            ..p.clone()
        };
        let t = Transform::new(&whole, &mean, &std).unwrap();
        let mut seen = vec![0.0; t.len()];
        t.finish_val(&t.prepare(&noise(224, 224, 3)), &mut seen);
        assert!(seen.iter().all(|v| *v != 0.0));
        let odd = Protocol {
            resize: 1,
            crop: 4,
            ..p.clone()
        };
        let t = Transform::new(&odd, &[0.0], &[1.0]).unwrap();
        let mut seen = vec![0.0; t.len()];
        let one = ImageArray {
            width: 1,
            height: 1,
            channels: 1,
            data: vec![255],
        };
        t.finish_val(&one, &mut seen);
        assert_eq!(seen.iter().position(|v| *v == 1.0), Some(5));
        assert!(
            Transform::new(
                &Protocol {
                    resize: 32,
                    crop: 28,
                    ..p
                },
                &mean,
                &std
            )
            .is_err()
        );
    }

    /// (Q40): both ways of making a square, against the plain operations one after the other.
    #[test]
    fn preparation_is_resize_then_centre_crop() {
        for (aspect, width, height) in [(Aspect::Squash, 256, 256), (Aspect::ShortSide, 384, 256)] {
            for channels in [1, 3] {
                let p = Protocol {
                    aspect,
                    ..Protocol::faithful()
                };
                let img = noise(300, 200, channels);
                let resized = pil::resize(&img, width, height, ResizeOrder::WidthFirst);
                let expected = pil::crop(&resized, pil::centre_window(width, height, 224));
                assert_eq!(Preparation::new(&p, channels).unwrap().apply(&img), expected);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let with = |f: &dyn Fn(&mut Protocol)| {
            let mut p = Protocol::faithful();
            f(&mut p);
            Transform::new(&p, &[0.5], &[0.25])
        };
        assert!(with(&|_| {}).is_ok());
        assert!(with(&|p| p.crop = 257).is_err());
        assert!(with(&|p| p.crop = 0).is_err());
        assert!(with(&|p| p.crop_scale = [1.0, 0.5]).is_err());
        let p = Protocol::faithful();
        assert!(Transform::new(&p, &[0.5; 2], &[0.5; 2]).is_err());
        assert!(Transform::new(&p, &[0.5; 3], &[0.5, 0.0, 0.5]).is_err());
    }
}
