//! Moving pixels without changing them: crops, flips, EXIF orientations, and the size rules of torchvision.

use crate::data::ImageArray;

/// A rectangle of pixels inside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Window {
    /// The whole of a `width × height` image.
    pub fn whole(width: usize, height: usize) -> Self {
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }

    /// Whether the window lies inside a `width × height` image and holds at least one pixel.
    pub fn fits(&self, width: usize, height: usize) -> bool {
        self.width > 0
            && self.height > 0
            && self.left.checked_add(self.width).is_some_and(|r| r <= width)
            && self.top.checked_add(self.height).is_some_and(|b| b <= height)
    }
}

/// Where torchvision's CenterCrop cuts a `side × side` square out of a `width × height` image: the margin is halved and
/// rounded half to even, as Python's `round` does.
pub fn centre_window(width: usize, height: usize, side: usize) -> Window {
    let offset = |n: usize| ((n.saturating_sub(side)) as f64 / 2.0).round_ties_even() as usize;
    Window {
        left: offset(width),
        top: offset(height),
        width: side,
        height: side,
    }
}

/// (width, height) after torchvision's Resize(side): the short side becomes `side`, the long one `⌊side · long / short⌋`.
pub fn short_side_size(width: usize, height: usize, side: usize) -> (usize, usize) {
    let long = |long: usize, short: usize| ((side * long) as f64 / short as f64) as usize;
    if width <= height {
        (side, long(height, width))
    } else {
        (long(width, height), side)
    }
}

/// Copies a window out of an image. Panics when the window is not inside it.
pub fn crop(img: &ImageArray, w: Window) -> ImageArray {
    assert!(w.fits(img.width, img.height), "{w:?} is not inside the image");
    let (stride, run) = (img.width * img.channels, w.width * img.channels);
    let mut data = Vec::with_capacity(run * w.height);
    for row in img.data.chunks_exact(stride).skip(w.top).take(w.height) {
        data.extend_from_slice(&row[w.left * img.channels..][..run]);
    }
    ImageArray {
        width: w.width,
        height: w.height,
        channels: img.channels,
        data,
    }
}

/// Mirrors left and right in place.
pub fn flip_horizontal(img: &mut ImageArray) {
    let channels = img.channels;
    for row in img.data.chunks_exact_mut(img.width * channels) {
        match channels {
            1 => row.reverse(),
            _ => row.as_chunks_mut::<3>().0.reverse(),
        }
    }
}

/// Mirrors top and bottom in place.
pub fn flip_vertical(img: &mut ImageArray) {
    let stride = img.width * img.channels;
    let (upper, lower) = img.data.split_at_mut(img.height / 2 * stride);
    for (a, b) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
        a.swap_with_slice(b);
    }
}

/// Turns stored pixels the right way up for an EXIF orientation of 1 to 8; any other value leaves them alone, as Pillow's
/// `exif_transpose` does.
pub fn orient(img: ImageArray, exif: u8) -> ImageArray {
    let mut img = if matches!(exif, 5..=8) { transpose(&img) } else { img };
    // After the transposition of 5..8 what remains is a flip: 6 is "rotate clockwise", 8 the other way.
    let (horizontal, vertical) = match exif {
        2 | 6 => (true, false),
        3 | 7 => (true, true),
        4 | 8 => (false, true),
        _ => (false, false),
    };
    if horizontal {
        flip_horizontal(&mut img);
    }
    if vertical {
        flip_vertical(&mut img);
    }
    img
}

fn transpose(img: &ImageArray) -> ImageArray {
    let mut data = Vec::with_capacity(img.data.len());
    for x in 0..img.width {
        for y in 0..img.height {
            data.extend_from_slice(&img.data[(y * img.width + x) * img.channels..][..img.channels]);
        }
    }
    ImageArray {
        width: img.height,
        height: img.width,
        channels: img.channels,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize) -> ImageArray {
        ImageArray {
            width,
            height,
            channels: 1,
            data: (0..(width * height) as u8).collect(),
        }
    }

    /// The eight pictures of the EXIF specification on a 3×2 image, written out by hand.
    #[test]
    fn orientations_by_hand() {
        let expected: [(u8, usize, &[u8]); 8] = [
            (1, 3, &[0, 1, 2, 3, 4, 5]),
            (2, 3, &[2, 1, 0, 5, 4, 3]),
            (3, 3, &[5, 4, 3, 2, 1, 0]),
            (4, 3, &[3, 4, 5, 0, 1, 2]),
            (5, 2, &[0, 3, 1, 4, 2, 5]),
            (6, 2, &[3, 0, 4, 1, 5, 2]),
            (7, 2, &[5, 2, 4, 1, 3, 0]),
            (8, 2, &[2, 5, 1, 4, 0, 3]),
        ];
        for (exif, width, data) in expected {
            let got = orient(numbered(3, 2), exif);
            assert_eq!((got.width, got.data.as_slice()), (width, data), "orientation {exif}");
        }
    }

    #[test]
    fn odd_margins_round_half_to_even_as_python_does() {
        let at = |n: usize| centre_window(n, n, 224).left;
        assert_eq!(
            [at(224), at(225), at(226), at(227), at(229), at(256)],
            [0, 0, 1, 2, 2, 16]
        );
    }

    #[test]
    fn flips_keep_the_middle_of_odd_sizes() {
        let mut img = numbered(3, 3);
        flip_vertical(&mut img);
        assert_eq!(img.data, [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        flip_horizontal(&mut img);
        assert_eq!(img.data, [8, 7, 6, 5, 4, 3, 2, 1, 0]);
    }
}
