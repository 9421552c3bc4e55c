//! Channels-last maps: depthwise convolution, the unfold of a general one, max pooling.

use super::cast::cast;
use super::columns::column_sums;
use super::composed::{composed1, composed2, composed3, instead_of};
use super::launch::{Arg, Spread, launch, packs, sum_parts, tag};
use crate::autograd::{Value, node1, node2, node3};
use crate::fallback::Kernel;
use crate::precision::{compute_type, computed_in};
use crate::unfold_map::UnfoldMap;
use candle_core::{Result, Tensor};

/// Positions of a line that a thread of the depthwise kernel has (kernels/map.cu).
const STRIP: usize = 4;

/// One pass of the depthwise kernel; `flip` gives the gradient by the input.
fn depthwise(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, flip: bool) -> Result<Value> {
    let ((b, h, w, c), k) = (x.dims4()?, weight.dim(3)?);
    let mut y = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/map.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("map", &format!("depthwise_{}", tag(x.dtype())?)),
            Spread::Items(b * h * w.div_ceil(STRIP) * packs(c, computed_in(x.dtype()))),
            &mut [
                Arg::In(x),
                Arg::In(weight),
                // Without a bias any address will do: it is not read.
                Arg::In(bias.unwrap_or(weight)),
                Arg::Out(&mut y),
                Arg::U64(b),
                Arg::U32(h),
                Arg::U32(w),
                Arg::U32(c),
                Arg::U32(k),
                Arg::U32(usize::from(bias.is_some())),
                Arg::U32(usize::from(flip)),
            ],
            &[],
        )
    }?;
    Ok(y)
}

fn depthwise_dweight(x: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((b, h, w, c), k) = (x.dims4()?, weight.dim(3)?);
    // Four lines a block: fewer would make many sums of blocks, more would leave few threads.
    let blocks = (b * h).div_ceil(4).clamp(1, 512);
    let mut parts = Value::new((blocks, c, k * k), weight.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/map.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("map", &format!("depthwise_dweight_{}", tag(x.dtype())?)),
            Spread::Items(blocks * packs(c, weight.dtype())),
            &mut [
                Arg::In(x),
                Arg::In(dy),
                Arg::Out(&mut parts),
                Arg::U64(b),
                Arg::U32(h),
                Arg::U32(w),
                Arg::U32(c),
                Arg::U32(k),
                Arg::U32(blocks),
            ],
            &[],
        )
    }?;
    Ok(sum_parts(&parts.tensor(), 1, blocks, c * k * k)?.tensor())
}

/// x (B, H, W, C), weight (C, 1, k, k), bias (C); as [`crate::depthwise_conv2d`]. The result has the type of x.
pub(crate) fn depthwise_conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, silu: bool) -> Result<Tensor> {
    let y = convolved(x, weight, bias)?;
    if silu { super::activation("silu", &y) } else { Ok(y) }
}

fn convolved(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    if instead_of(Kernel::Depthwise, x.device()) {
        return match bias {
            Some(bias) => composed3("depthwise_conv2d", [&x, &weight, bias], x.dtype(), |[x, w, b]| {
                crate::depthwise::composed(x, w, Some(b))
            }),
            None => composed2("depthwise_conv2d", [&x, &weight], x.dtype(), |[x, w]| {
                crate::depthwise::composed(x, w, None)
            }),
        };
    }
    let back = |x: &Tensor, w: &Tensor, dy: &Tensor| -> Result<[Option<Tensor>; 2]> {
        let dx = if x.track_op() {
            Some(depthwise(dy, w, None, true)?.tensor())
        } else {
            None
        };
        let dw = if w.track_op() {
            Some(depthwise_dweight(x, dy, w)?)
        } else {
            None
        };
        Ok([dx, dw])
    };
    match bias {
        Some(bias) => {
            let bias = bias.contiguous()?;
            let y = depthwise(&x, &weight, Some(&bias), false)?;
            node3("depthwise_conv2d", [&x, &weight, &bias], y, move |[x, w, b], _, dy| {
                let [dx, dw] = back(x, w, dy)?;
                let db = if b.track_op() {
                    Some(column_sums(&dy.reshape(((), b.elem_count()))?)?)
                } else {
                    None
                };
                Ok([dx, dw, db])
            })
        }
        None => {
            let y = depthwise(&x, &weight, None, false)?;
            node2("depthwise_conv2d", [&x, &weight], y, move |[x, w], _, dy| {
                back(x, w, dy)
            })
        }
    }
}

impl UnfoldMap {
    fn run(
        self,
        kernel: &str,
        from: &Tensor,
        to: &mut Value,
        (b, h, w, c): (usize, usize, usize, usize),
    ) -> Result<()> {
        let items = to.dims().iter().product::<usize>() / c.max(1) * packs(c, from.dtype());
        // SAFETY: the arguments are those of kernels/map.cu, for operands of these sizes.
        unsafe {
            launch(
                from.device(),
                ("map", &format!("{kernel}_{}", tag(from.dtype())?)),
                Spread::Items(items),
                &mut [
                    Arg::In(from),
                    Arg::Out(to),
                    Arg::U64(b),
                    Arg::U32(h),
                    Arg::U32(w),
                    Arg::U32(c),
                    Arg::U32(self.out.0),
                    Arg::U32(self.out.1),
                    Arg::U32(self.k),
                    Arg::U32(self.stride),
                    Arg::U32(self.padding),
                ],
                &[],
            )
        }
    }
}

/// x (B, H, W, C) → (B, Ho·Wo, k·k·C), zero-padded.
pub(crate) fn unfold(x: &Tensor, z: UnfoldMap) -> Result<Tensor> {
    let x = cast(x, compute_type(x))?.contiguous()?;
    if instead_of(Kernel::Unfold, x.device()) {
        return composed1("unfold", &x, x.dtype(), move |[x]| z.composed(x));
    }
    let (b, h, w, c) = x.dims4()?;
    let mut y = Value::new((b, z.out.0 * z.out.1, z.k * z.k * c), x.dtype(), x.device())?;
    z.run("unfold", &x, &mut y, (b, h, w, c))?;
    node1("unfold", &x, y, move |[x], _, dy| {
        let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
        z.run("unfold_grad", dy, &mut dx, (b, h, w, c))?;
        Ok([Some(dx.tensor())])
    })
}

/// x (B, H, W, C) → (B, H/py, W/px, C); as [`crate::max_pool`].
pub(crate) fn max_pool(x: &Tensor, (py, px): (usize, usize)) -> Result<Tensor> {
    let x = x.contiguous()?;
    if instead_of(Kernel::MaxPool, x.device()) {
        return composed1("max_pool", &x, x.dtype(), move |[x]| crate::pool::composed(x, (py, px)));
    }
    let (b, h, w, c) = x.dims4()?;
    let (shape, tag) = ((b, h / py, w / px, c), tag(x.dtype())?);
    let mut y = Value::new(shape, x.dtype(), x.device())?;
    let items = shape.0 * shape.1 * shape.2 * packs(c, x.dtype());
    let sizes = move || {
        [
            Arg::U64(b),
            Arg::U32(h),
            Arg::U32(w),
            Arg::U32(c),
            Arg::U32(py),
            Arg::U32(px),
        ]
    };
    let mut args = vec![Arg::In(&x), Arg::Out(&mut y)];
    args.extend(sizes());
    let name = format!("max_pool_{tag}");
    // SAFETY: the arguments are those of kernels/map.cu, for operands of these sizes.
    unsafe { launch(x.device(), ("map", &name), Spread::Items(items), &mut args, &[]) }?;
    node1("max_pool", &x, y, move |[x], y, dy| {
        let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
        let mut args = vec![Arg::In(x), Arg::In(y), Arg::In(dy), Arg::Out(&mut dx)];
        args.extend(sizes());
        let work = Spread::Items(b * h * w * packs(c, x.dtype()));
        // SAFETY: the arguments are those of kernels/map.cu, for operands of these sizes.
        unsafe {
            launch(
                x.device(),
                ("map", &format!("max_pool_grad_{tag}")),
                work,
                &mut args,
                &[],
            )
        }?;
        Ok([Some(dx.tensor())])
    })
}
