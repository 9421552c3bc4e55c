//! The phantom of ISIC2019 (PROTOCOL 1.3): dermoscopy, eight diagnoses, several images of some lesions.
//!
//! A diagnosis sets colour, size, border and what lies on the lesion (network, blue-grey patches, vessels, scales,
//! cysts). Images of one lesion share its outline, colours and skin, and differ in view. Both CSV files end their lines
//! with CR LF, as the distributed ones do; the metadata have gaps, and a few images carry the `_downsampled` of the
//! real names.

use super::draw::{Canvas, Outline, Point, between, curve, direction, inside, length, noise, once_in, ramp, whole};
use super::{Of, Phantom, Picture, Set, at_least, deal, stream};
use crate::rng::Stream;
use anyhow::Result;
use std::path::Path;

pub const DEFAULT_IMAGES: usize = 240;
/// The first deal that has every class in every part of the authors' split at the default size (a test keeps it so).
pub(super) const DEAL: usize = 6;
const LEAST: usize = 120;
const CLASSES: [&str; 9] = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"];
/// Per cent of the first eight; the real set has 18, 51, 13, 3, 10, 1, 1, 2.
const SHARES: [usize; 8] = [18, 30, 15, 8, 12, 5, 5, 7];
const SITES: [&str; 8] = [
    "anterior torso",
    "head/neck",
    "lateral torso",
    "lower extremity",
    "oral/genital",
    "palms/soles",
    "posterior torso",
    "upper extremity",
];

/// Where a lesion's images come from; the real file is in this order, and numbers its images so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ImageOrigin {
    Unnamed,
    Msk4,
    Ham,
    Bcn,
}

struct Row {
    source: ImageOrigin,
    class: usize,
    lesion: usize,
}

/// Writes both label files and `images` photographs below `root`.
///
/// # Errors
/// [`crate::error::BadInput`] for too few images, for a file that is already there with other content, or when the disk
/// refuses.
pub fn write(root: &Path, images: usize) -> Result<()> {
    plan(images)?.write(root, super::WRITERS)
}

pub(super) fn plan(images: usize) -> Result<Phantom> {
    at_least("ISIC2019", images, LEAST)?;
    let mut rng = stream(Set::Isic2019, Of::Table(DEAL));
    let rows = rows(&mut rng, images);
    let mut truth = format!("image,{}\r\n", CLASSES.join(","));
    let mut metadata = "image,age_approx,anatom_site_general,lesion_id,sex\r\n".to_owned();
    let mut pictures = Vec::new();
    let mut number = 0;
    for (i, row) in rows.iter().enumerate() {
        let first = match row.source {
            ImageOrigin::Unnamed => 0,
            ImageOrigin::Msk4 => 12_653,
            ImageOrigin::Ham => 24_306,
            ImageOrigin::Bcn => 53_454,
        };
        number = (number + whole(&mut rng, 1, 2)).max(first);
        let small = row.source == ImageOrigin::Msk4 || (row.source == ImageOrigin::Unnamed && once_in(&mut rng, 8));
        let name = format!("ISIC_{number:07}{}", if small { "_downsampled" } else { "" });
        let bits: Vec<&str> = (0..CLASSES.len())
            .map(|c| if c == row.class { "1.0" } else { "0.0" })
            .collect();
        truth += &format!("{name},{}\r\n", bits.join(","));
        metadata += &format!("{name},{}\r\n", lesion_facts(row));
        let (class, lesion, wide) = (row.class, row.lesion, row.source == ImageOrigin::Ham);
        pictures.push(Picture::new(
            format!("ISIC_2019_Training_Input/ISIC_2019_Training_Input/{name}.jpg"),
            move || {
                let mut view = stream(Set::Isic2019, Of::Image(i));
                let side = whole(&mut view, 96, 112);
                let (w, h) = if wide { (128, 96) } else { (side, side) };
                let mut canvas = dermoscopy(class, w, h, &mut stream(Set::Isic2019, Of::Subject(lesion)), &mut view);
                canvas.expose(&light(class).map(|g| g * between(&mut view, 0.93, 1.07)));
                canvas
            },
        ));
    }
    Ok(Phantom {
        labels: vec![
            ("ISIC_2019_Training_GroundTruth.csv".into(), truth.into_bytes()),
            ("ISIC_2019_Training_Metadata.csv".into(), metadata.into_bytes()),
        ],
        pictures,
    })
}

/// The light in which the lesions of a class are photographed: red, green and blue each full or dimmed, which makes eight.
fn light(class: usize) -> [f32; 3] {
    [0, 1, 2].map(|channel| if class >> channel & 1 == 1 { 1.05 } else { 0.6 })
}

/// Classes by row in deal `number`.
#[cfg(test)]
pub(super) fn classes(images: usize, number: usize) -> Vec<usize> {
    let rows = rows(&mut stream(Set::Isic2019, Of::Table(number)), images);
    rows.into_iter().map(|r| r.class).collect()
}

/// Lesions of one to three images until every class has its number; rare classes have almost one lesion an image, so
/// that a split by lesion can place them.
fn rows(rng: &mut Stream, images: usize) -> Vec<Row> {
    let mut count = [0; SHARES.len()];
    deal(rng, &SHARES, images)
        .into_iter()
        .for_each(|class| count[class] += 1);
    let mut rows = Vec::new();
    let mut lesion = 0;
    for (class, &n) in count.iter().enumerate() {
        let sizes: &[usize] = if n < 20 { &[1, 1, 1, 1, 2] } else { &[1, 1, 1, 2, 2, 3] };
        let mut left = n;
        while left > 0 {
            let size = sizes[whole(rng, 0, sizes.len() as u32 - 1)].min(left);
            let source = match rng.below(25) {
                0..2 => ImageOrigin::Unnamed,
                2 => ImageOrigin::Msk4,
                3..13 => ImageOrigin::Ham,
                _ => ImageOrigin::Bcn,
            };
            rows.extend((0..size).map(|_| Row { source, class, lesion }));
            left -= size;
            lesion += 1;
        }
    }
    rng.shuffle(&mut rows);
    rows.sort_by_key(|r| r.source);
    rows
}

/// `age_approx,anatom_site_general,lesion_id,sex`, each of them sometimes missing, the same for all images of a lesion.
fn lesion_facts(row: &Row) -> String {
    let mut rng = stream(Set::Isic2019, Of::Facts(row.lesion));
    let gap = |rng: &mut Stream, n: u32, text: String| if once_in(rng, n) { String::new() } else { text };
    let age = 5 * whole(&mut rng, 3, 17);
    let age = gap(&mut rng, 40, age.to_string());
    let site = SITES[whole(&mut rng, 0, SITES.len() as u32 - 1)].to_owned();
    let site = gap(&mut rng, 10, site);
    let sex = if once_in(&mut rng, 2) { "female" } else { "male" };
    let sex = gap(&mut rng, 40, sex.to_owned());
    let number = 17 + 3 * row.lesion;
    let lesion = match row.source {
        ImageOrigin::Unnamed => String::new(),
        ImageOrigin::Msk4 => format!("MSK4_{number:07}"),
        ImageOrigin::Ham => format!("HAM_{number:07}"),
        ImageOrigin::Bcn => format!("BCN_{number:07}"),
    };
    format!("{age},{site},{lesion},{sex}")
}

/// What a diagnosis looks like: colours of middle and rim, radius in short sides, raggedness and softness of the
/// border, how much noise speckles it.
struct Look {
    middle: [f32; 3],
    rim: [f32; 3],
    radius: [f32; 2],
    rough: f32,
    soft: f32,
    mottle: f32,
}

const fn look(middle: [f32; 3], rim: [f32; 3], radius: [f32; 2], rough: f32, soft: f32, mottle: f32) -> Look {
    Look {
        middle,
        rim,
        radius,
        rough,
        soft,
        mottle,
    }
}

/// In the order of [`CLASSES`].
const LOOKS: [Look; 8] = [
    look([0.17, 0.11, 0.10], [0.36, 0.23, 0.17], [0.28, 0.36], 0.30, 0.10, 0.25),
    look([0.46, 0.28, 0.18], [0.56, 0.36, 0.25], [0.20, 0.27], 0.10, 0.15, 0.10),
    look([0.85, 0.60, 0.58], [0.74, 0.46, 0.46], [0.26, 0.34], 0.15, 0.18, 0.08),
    look([0.82, 0.50, 0.43], [0.82, 0.54, 0.47], [0.28, 0.36], 0.22, 0.40, 0.14),
    look([0.52, 0.43, 0.34], [0.45, 0.35, 0.26], [0.26, 0.34], 0.18, 0.04, 0.18),
    look([0.92, 0.84, 0.79], [0.58, 0.39, 0.30], [0.18, 0.24], 0.08, 0.22, 0.05),
    look([0.45, 0.07, 0.17], [0.64, 0.15, 0.20], [0.20, 0.28], 0.14, 0.08, 0.20),
    look([0.93, 0.84, 0.66], [0.78, 0.40, 0.37], [0.28, 0.36], 0.18, 0.18, 0.10),
];

/// The class that each is most often taken for: a lesion's colours and size lean towards it, some of them halfway.
const AKIN: [usize; 8] = [1, 0, 3, 7, 1, 1, 0, 2];

impl Look {
    fn lean(&self, other: &Self, share: f32) -> Self {
        let mix = |a: f32, b: f32| a + share * (b - a);
        let three = |a: [f32; 3], b: [f32; 3]| [mix(a[0], b[0]), mix(a[1], b[1]), mix(a[2], b[2])];
        Self {
            middle: three(self.middle, other.middle),
            rim: three(self.rim, other.rim),
            radius: [
                mix(self.radius[0], other.radius[0]),
                mix(self.radius[1], other.radius[1]),
            ],
            rough: mix(self.rough, other.rough),
            soft: mix(self.soft, other.soft),
            mottle: mix(self.mottle, other.mottle),
        }
    }
}

/// A lesion in the picture: where, how large, turned how.
struct Lesion {
    at: Point,
    radius: f32,
    flat: f32,
    axis: Point,
    outline: Outline,
}

impl Lesion {
    /// Coordinates along the lesion's own axes, in radii.
    fn local(&self, p: Point) -> Point {
        let (x, y) = ((p[0] - self.at[0]) / self.radius, (p[1] - self.at[1]) / self.radius);
        let [c, s] = self.axis;
        [x * c + y * s, (y * c - x * s) / self.flat]
    }

    /// A random point up to `share` of the way to the border.
    fn somewhere(&self, rng: &mut Stream, share: f32) -> Point {
        inside(rng, self.at, share * self.radius * self.flat)
    }
}

/// A dermoscopic photograph (h, w, 3) of class 0–7; `lesion` makes what is the same in all images of a lesion.
pub(super) fn dermoscopy(class: usize, w: usize, h: usize, lesion: &mut Stream, view: &mut Stream) -> Canvas {
    let doubt = between(lesion, 0.0, 1.0);
    let look = LOOKS[class].lean(&LOOKS[AKIN[class]], 0.5 * doubt * doubt);
    let mut canvas = Canvas::new(w, h, 3);
    let red = between(lesion, 0.78, 0.88);
    let skin = [
        red,
        red * between(lesion, 0.74, 0.81),
        red * between(lesion, 0.68, 0.77),
    ];
    let tone = between(lesion, 0.88, 1.12);
    let tint = [0; 3].map(|_| tone * between(lesion, 0.95, 1.05));
    let size = between(lesion, look.radius[0], look.radius[1]);
    let outline = Outline::new(lesion, look.rough);
    let flat = between(lesion, 0.75, 1.0);
    let lesion = Lesion {
        at: inside(view, canvas.middle(), 0.07 * canvas.short()),
        radius: size * canvas.short() * between(view, 0.92, 1.08),
        flat,
        axis: direction(view),
        outline,
    };
    let grain = noise(view, w, h, 18.0, 4);
    let patches = noise(view, w, h, 9.0, 3);
    canvas.shade(|i, p, px| {
        let [x, y] = lesion.local(p);
        let depth = lesion.outline.depth(x, y) + 0.08 * patches[i];
        let cover = ramp(1.0 + look.soft, 1.0 - look.soft, depth);
        let rim = ramp(0.35, 0.75, depth);
        for (c, v) in px.iter_mut().enumerate() {
            let skin = skin[c] * (1.0 + 0.07 * grain[i]);
            let inner = look.middle[c] + rim * (look.rim[c] - look.middle[c]);
            *v = skin + cover * (inner * tint[c] * (1.0 + look.mottle * 2.0 * patches[i]) - skin);
        }
    });
    details(&mut canvas, class, &lesion, &patches, view);
    hairs(&mut canvas, view);
    vignette(&mut canvas, view);
    canvas
}

/// The structures that a dermatologist reads, by class.
fn details(canvas: &mut Canvas, class: usize, lesion: &Lesion, patches: &[f32], rng: &mut Stream) {
    let r = lesion.radius;
    let mut spots = |rng: &mut Stream, n: [u32; 2], share: f32, size: [f32; 2], colour: [f32; 3], alpha: f32| {
        for _ in 0..whole(rng, n[0], n[1]) {
            let at = lesion.somewhere(rng, share);
            let radius = (r * between(rng, size[0], size[1])).max(0.9);
            canvas.spot(at, radius, 0.6, &colour, alpha);
        }
    };
    match CLASSES[class] {
        "MEL" => spots(rng, [3, 5], 0.7, [0.25, 0.45], [0.36, 0.38, 0.46], 0.55),
        "NV" => network(canvas, lesion, patches, [0.26, 0.13, 0.07], 0.0),
        "BCC" => {
            spots(rng, [5, 8], 0.8, [0.1, 0.2], [0.40, 0.39, 0.47], 0.75);
            for _ in 0..whole(rng, 4, 6) {
                let (a, c) = (lesion.somewhere(rng, 1.0), lesion.somewhere(rng, 0.5));
                let b = inside(rng, a, 0.6 * r);
                canvas.stroke(&curve(a, b, c), [0.7, 0.3], &[0.70, 0.16, 0.18], 0.7);
            }
        }
        "AK" => spots(rng, [14, 20], 0.95, [0.05, 0.11], [0.96, 0.88, 0.82], 0.6),
        "BKL" => {
            spots(rng, [8, 12], 0.85, [0.06, 0.10], [0.88, 0.80, 0.60], 0.75);
            spots(rng, [4, 6], 0.85, [0.05, 0.09], [0.24, 0.17, 0.11], 0.7);
        }
        "DF" => network(canvas, lesion, patches, [0.42, 0.24, 0.16], 0.55),
        "VASC" => spots(rng, [6, 9], 0.8, [0.18, 0.32], [0.38, 0.03, 0.16], 0.55),
        _ => spots(rng, [6, 9], 0.95, [0.06, 0.12], [0.42, 0.05, 0.05], 0.85),
    }
}

/// The brown mesh of a pigment network, fading out at the border and, from the share `hole` inwards, in the middle.
fn network(canvas: &mut Canvas, lesion: &Lesion, warp: &[f32], colour: [f32; 3], hole: f32) {
    let mesh = |x: f32| {
        let cell = 3.0 * x;
        (cell - cell.floor() - 0.5).abs()
    };
    canvas.shade(|i, p, px| {
        let [x, y] = lesion.local(p);
        let depth = lesion.outline.depth(x, y);
        let (x, y) = (x + 0.25 * warp[i], y - 0.25 * warp[i]);
        let line = ramp(0.24, 0.06, mesh(x + y).min(mesh(x - y)));
        let a = 0.5 * line * ramp(1.05, 0.8, depth) * ramp(hole, hole + 0.2, depth);
        for (v, c) in px.iter_mut().zip(colour) {
            *v += a * (c - *v);
        }
    });
}

/// A few hairs on one picture in three.
fn hairs(canvas: &mut Canvas, rng: &mut Stream) {
    if !once_in(rng, 3) {
        return;
    }
    let (middle, side) = (canvas.middle(), canvas.short());
    for _ in 0..whole(rng, 2, 4) {
        let (a, b, c) = (
            inside(rng, middle, 0.7 * side),
            inside(rng, middle, 0.5 * side),
            inside(rng, middle, 0.7 * side),
        );
        canvas.stroke(&curve(a, b, c), [0.45, 0.3], &[0.16, 0.10, 0.07], 0.7);
    }
}

/// Darker corners; on one picture in four the black surround of a round field of view.
fn vignette(canvas: &mut Canvas, rng: &mut Stream) {
    let (middle, side) = (canvas.middle(), canvas.short());
    let strength = between(rng, 0.1, 0.35);
    let field = once_in(rng, 4).then(|| 0.5 * side * between(rng, 1.05, 1.15));
    canvas.shade(|_, p, px| {
        let r = length(p[0] - middle[0], p[1] - middle[1]);
        let light = 1.0 - strength * ramp(0.35 * side, 0.85 * side, r);
        let round = field.map_or(1.0, |field| ramp(field + 1.5, field - 1.5, r));
        px.iter_mut().for_each(|v| *v *= light * round);
    });
}
