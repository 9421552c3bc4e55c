//! Windows of a channels-last map.

use super::cast::cast;
use super::composed::{composed1, composed2, instead_of};
use super::launch::{Arg, Spread, launch, packs, row_blocks, sum_parts, tag};
use crate::autograd::{Value, node1, node2};
use crate::fallback::Kernel;
use crate::precision::computed_in;
use crate::window::{Geometry, cut, put_together};
use candle_core::{Result, Tensor, bail};

/// A map (B, H, W, C) under (ny, nx) windows of (wh, ww) positions, which may reach over its lower and right border, or leave a
/// rest of it uncovered.
#[derive(Debug, Clone, Copy)]
struct Grid {
    map: (usize, usize),
    windows: (usize, usize),
    window: (usize, usize),
}

impl Grid {
    fn args<'a>(self, c: usize) -> [Arg<'a>; 7] {
        let (map, n, side) = (self.map, self.windows, self.window);
        [map.0, map.1, c, n.0, n.1, side.0, side.1].map(Arg::U32)
    }

    fn padded(self) -> bool {
        self.windows.0 * self.window.0 > self.map.0 || self.windows.1 * self.window.1 > self.map.1
    }

    /// Windows (B·ny·nx, wh·ww, C) of contiguous `map`.
    fn cut(self, map: &Tensor, bias: Option<&Tensor>) -> Result<Value> {
        let (b, h, w, c) = map.dims4()?;
        if (h, w) != self.map {
            bail!("windows {self:?} of a map {:?}", map.dims());
        }
        let shape = (b * self.windows.0 * self.windows.1, self.window.0 * self.window.1, c);
        let mut y = Value::new(shape, map.dtype(), map.device())?;
        let count = shape.0 * shape.1;
        let mut args = vec![
            Arg::In(map),
            // Without a bias any address will do: it is not read.
            Arg::In(bias.unwrap_or(map)),
            Arg::Out(&mut y),
            Arg::U64(count),
            Arg::U32(usize::from(bias.is_some())),
        ];
        args.extend(self.args(c));
        let name = format!("cut_windows_{}", tag(map.dtype())?);
        // SAFETY: the arguments are those of kernels/window.cu, for operands of these sizes.
        unsafe {
            launch(
                map.device(),
                ("window", &name),
                Spread::Items(count * packs(c, map.dtype())),
                &mut args,
                &[],
            )
        }?;
        Ok(y)
    }

    /// The map (B, H, W, C) of contiguous `windows` (B·ny·nx, wh·ww, C).
    fn join(self, windows: &Tensor) -> Result<Value> {
        let (n, positions, c) = windows.dims3()?;
        let (ny, nx) = self.windows;
        if n % (ny * nx) != 0 || positions != self.window.0 * self.window.1 {
            bail!("a map of windows {:?} as {self:?}", windows.dims());
        }
        let shape = (n / ny / nx, self.map.0, self.map.1, c);
        let mut y = Value::new(shape, windows.dtype(), windows.device())?;
        let count = shape.0 * shape.1 * shape.2;
        let mut args = vec![Arg::In(windows), Arg::Out(&mut y), Arg::U64(count)];
        args.extend(self.args(c));
        let name = format!("join_windows_{}", tag(windows.dtype())?);
        // SAFETY: the arguments are those of kernels/window.cu, for operands of these sizes.
        unsafe {
            launch(
                windows.device(),
                ("window", &name),
                Spread::Items(count * packs(c, windows.dtype())),
                &mut args,
                &[],
            )
        }?;
        Ok(y)
    }

    /// Sums (C) of what lies beyond the map in windows (B·ny·nx, wh·ww, C).
    fn padding_sums(self, windows: &Tensor) -> Result<Tensor> {
        let (n, positions, c) = windows.dims3()?;
        let blocks = row_blocks(n * positions);
        let device = windows.device();
        let mut parts = Value::new((blocks, c), computed_in(windows.dtype()), device)?;
        let mut args = vec![
            Arg::In(windows),
            Arg::Out(&mut parts),
            Arg::U64(n * positions),
            Arg::U32(blocks),
        ];
        args.extend(self.args(c));
        let name = format!("padding_sums_{}", tag(windows.dtype())?);
        // SAFETY: the arguments are those of kernels/window.cu, for operands of these sizes.
        unsafe { launch(device, ("window", &name), Spread::Items(blocks * c), &mut args, &[]) }?;
        Ok(sum_parts(&parts.tensor(), 1, blocks, c)?.tensor())
    }
}

/// map (B, H, W, C) → windows (B·ny·nx, wh·ww, C), the last fastest; padding has the value `bias` (C), of the map's type.
fn cut_windows(map: &Tensor, bias: &Tensor, grid: Grid) -> Result<Tensor> {
    let (map, bias) = (map.contiguous()?, bias.contiguous()?);
    let y = grid.cut(&map, Some(&bias))?;
    node2("cut_windows", [&map, &bias], y, move |[_, bias], _, dy| {
        let sums = if bias.track_op() && grid.padded() {
            Some(grid.padding_sums(dy)?)
        } else {
            None
        };
        Ok([Some(grid.join(dy)?.tensor()), sums])
    })
}

/// windows (B·ny·nx, wh·ww, C) → map (B, H, W, C); what lies beyond the map is dropped.
fn join_windows(windows: &Tensor, grid: Grid) -> Result<Tensor> {
    let windows = windows.contiguous()?;
    let y = grid.join(&windows)?;
    node1("join_windows", &windows, y, move |_, _, dy| {
        Ok([Some(grid.cut(dy, None)?.tensor())])
    })
}

/// Attention over `qkv` (B, H, W, 3·C) inside windows, padding being `bias` (3·C); as [`crate::window_attention`].
pub(crate) fn window_attention(qkv: &Tensor, bias: &Tensor, g: Geometry) -> Result<Tensor> {
    let bias = cast(bias, qkv.dtype())?;
    if instead_of(Kernel::Windows, qkv.device()) {
        return g.attend(
            qkv,
            |x| composed2("cut_windows", [x, &bias], x.dtype(), move |[x, bias]| cut(x, bias, g)),
            |y| composed1("join_windows", y, y.dtype(), move |[y]| put_together(y, g)),
        );
    }
    let grid = |map, window| Grid {
        map,
        windows: (g.ny, g.nx),
        window,
    };
    g.attend(
        qkv,
        |x| cut_windows(x, &bias, grid((g.h, g.w), (g.wh, g.ww))),
        |y| join_windows(y, grid((g.oh, g.ow), (g.qh, g.qw))),
    )
}
