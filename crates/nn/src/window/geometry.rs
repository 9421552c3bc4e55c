//! How a map falls into windows, and where the operands of each lie.

use crate::cpu::Real;
use candle_core::{Result, bail};

/// How a map is cut for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Heads h; the width is a multiple of it.
    pub heads: usize,
    /// Side of a square window; 0: the whole map is one.
    pub side: usize,
    /// Max pooling of the queries inside each window, (vertical, horizontal); (1, 1) is none.
    pub pool: (usize, usize),
}

/// Sizes of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub b: usize,
    /// Map.
    pub h: usize,
    pub w: usize,
    pub heads: usize,
    /// Width of a head.
    pub d: usize,
    /// Window.
    pub wh: usize,
    pub ww: usize,
    /// Number of windows.
    pub ny: usize,
    pub nx: usize,
    /// Pooling.
    pub py: usize,
    pub px: usize,
    /// Queries of a window.
    pub qh: usize,
    pub qw: usize,
    /// Output map.
    pub oh: usize,
    pub ow: usize,
}

/// A window's part of the map: top left corner and size.
#[derive(Clone, Copy)]
pub(crate) struct Rect {
    pub y: usize,
    pub x: usize,
    pub h: usize,
    pub w: usize,
}

impl Rect {
    pub(crate) fn len(self) -> usize {
        self.h * self.w
    }
}

impl Geometry {
    pub(crate) fn new(dims: &[usize], s: Windows) -> Result<Self> {
        let (&[b, h, w, c3], (py, px)) = (dims, s.pool) else {
            bail!("window attention: {dims:?} is not a channels-last map");
        };
        if s.heads == 0 || c3 % (3 * s.heads) != 0 || py == 0 || px == 0 || h < py || w < px {
            bail!("window attention: a map {dims:?} with {s:?}");
        }
        let (wh, ww) = if s.side == 0 { (h, w) } else { (s.side, s.side) };
        let (ny, nx) = (h.div_ceil(wh), w.div_ceil(ww));
        let g = Self {
            b,
            h,
            w,
            heads: s.heads,
            d: c3 / 3 / s.heads,
            wh,
            ww,
            ny,
            nx,
            py,
            px,
            qh: wh / py,
            qw: ww / px,
            oh: h / py,
            ow: w / px,
        };
        if g.ny * g.qh < g.oh || g.nx * g.qw < g.ow {
            bail!("window attention: windows of {wh}×{ww} cannot be pooled by {py}×{px} on a map {dims:?}");
        }
        Ok(g)
    }

    /// Width of all heads.
    pub(crate) fn width(&self) -> usize {
        self.heads * self.d
    }

    pub(crate) fn padded(&self) -> bool {
        !self.h.is_multiple_of(self.wh) || !self.w.is_multiple_of(self.ww)
    }

    pub(crate) fn pooled(&self) -> bool {
        (self.py, self.px) != (1, 1)
    }

    pub(crate) fn tasks(&self) -> usize {
        self.b * self.ny * self.nx * self.heads
    }

    /// (image, window row, window column, head) of a task.
    pub(crate) fn task(&self, t: usize) -> (usize, usize, usize, usize) {
        let (t, head) = (t / self.heads, t % self.heads);
        (t / (self.ny * self.nx), t / self.nx % self.ny, t % self.nx, head)
    }

    /// Keys of a window that lie inside the map.
    pub(crate) fn keys(&self, wy: usize, wx: usize) -> Rect {
        let (y, x) = (wy * self.wh, wx * self.ww);
        Rect {
            y,
            x,
            h: self.wh.min(self.h - y),
            w: self.ww.min(self.w - x),
        }
    }

    /// Queries of a window that lie inside the output.
    pub(crate) fn queries(&self, wy: usize, wx: usize) -> Rect {
        let (y, x) = (wy * self.qh, wx * self.qw);
        Rect {
            y,
            x,
            h: self.qh.min(self.oh.saturating_sub(y)),
            w: self.qw.min(self.ow.saturating_sub(x)),
        }
    }

    /// Index of q (0), k (1) or v (2) of a head at a position of the map.
    pub(crate) fn at(&self, part: usize, b: usize, y: usize, x: usize, head: usize) -> usize {
        (((b * self.h + y) * self.w + x) * 3 + part) * self.width() + head * self.d
    }

    /// Index of a head in the output map.
    pub(crate) fn out(&self, b: usize, y: usize, x: usize, head: usize) -> usize {
        ((b * self.oh + y) * self.ow + x) * self.width() + head * self.d
    }

    pub(crate) fn scale<T: Real>(&self) -> T {
        T::of(1.0 / (self.d as f64).sqrt())
    }
}
