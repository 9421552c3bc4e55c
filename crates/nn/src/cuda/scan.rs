//! The selective scan: step sizes as products, the recurrence by chunks of steps beside each other.

use super::cast::cast;
use super::composed::{composed1, composed3, instead_of};
use super::launch::{Arg, Spread, launch, sum_parts, tag};
use super::tables::table;
use crate::autograd::{Value, node1, node3};
use crate::fallback::Kernel;
use crate::scan::{composed, from_orders, in_orders};
use crate::{Orders, SelectiveScan};
use candle_core::{Device, Result, Tensor, bail};

/// Steps between two stored states, and the most states a channel (kernels/scan.cu).
const STEPS: usize = 32;
const MAX_STATES: usize = 16;
/// Channels whose gradients of B and C a warp adds up.
const WARP: usize = 32;

/// Sizes of a call: images, positions, channels, directions, states, rank of the step sizes.
#[derive(Clone, Copy)]
struct Sizes {
    b: usize,
    l: usize,
    d: usize,
    k: usize,
    n: usize,
    r: usize,
}

impl Sizes {
    fn args<'a>(self) -> [Arg<'a>; 6] {
        [self.b, self.l, self.d, self.k, self.n, self.r].map(Arg::U32)
    }

    fn chunks(self) -> usize {
        self.l.div_ceil(STEPS)
    }

    /// What every chunk is entered with, (B, K, chunks, N, D), forwards or backwards: all chunks apart from each other, by the
    /// kernel `alone` of these operands, then from chunk to chunk. No thread goes along a whole row.
    fn entered(self, alone: &str, operands: &[&Tensor], parameters: &Tensor, backwards: bool) -> Result<Tensor> {
        let (device, dtype) = (parameters.device(), parameters.dtype());
        let tag = tag(dtype)?;
        let mut states = Value::new((self.b, self.k, self.chunks(), self.n, self.d), dtype, device)?;
        let mut spans = Value::new((self.b, self.k, self.chunks(), self.d), dtype, device)?;
        let mut args: Vec<Arg<'_>> = operands.iter().map(|t| Arg::In(t)).collect();
        args.extend([Arg::Out(&mut states), Arg::Out(&mut spans)]);
        args.extend(self.args());
        let work = Spread::Items(self.b * self.k * self.chunks() * self.d);
        // SAFETY: the arguments are those of kernels/scan.cu, for operands of these sizes.
        unsafe { launch(device, ("scan", &format!("scan_{alone}_{tag}")), work, &mut args, &[]) }?;
        let spans = spans.tensor();
        let mut args = vec![
            Arg::In(parameters),
            Arg::In(&spans),
            Arg::Out(&mut states),
            Arg::U32(usize::from(backwards)),
        ];
        args.extend(self.args());
        let work = Spread::Items(self.b * self.k * self.n * self.d);
        // SAFETY: the arguments are those of kernels/scan.cu, for operands of these sizes.
        unsafe { launch(device, ("scan", &format!("scan_carry_{tag}")), work, &mut args, &[]) }?;
        Ok(states.tensor())
    }

    /// The step inputs of `projected` as (K, B·L, R).
    fn steps(self, projected: &Tensor) -> Result<Tensor> {
        projected
            .reshape((self.b * self.l, self.k, self.r + 2 * self.n))?
            .narrow(2, 0, self.r)?
            .transpose(0, 1)?
            .contiguous()
    }

    /// The step weights (K, D, R) of the packed parameters.
    fn weights(self, parameters: &Tensor) -> Result<Tensor> {
        parameters
            .narrow(1, 0, self.r)?
            .contiguous()?
            .reshape((self.k, self.d, self.r))
    }

    /// Steps before bias and softplus, (K, B·L, D).
    fn raw(self, projected: &Tensor, parameters: &Tensor) -> Result<Tensor> {
        let weights = self.weights(parameters)?.transpose(1, 2)?;
        Ok(Value::product(&self.steps(projected)?, &weights, false)?.tensor())
    }
}

/// The orders on a device, (K·L).
fn orders_on(orders: &Orders, device: &Device) -> Result<Tensor> {
    let make = || orders.iter().flatten().copied().collect();
    table("scan orders", &orders.sizes(), device, make)
}

/// What place each position has in its order, on a device, (K·L).
fn places_on(orders: &Orders, device: &Device) -> Result<Tensor> {
    let invert = |o: &[u32]| {
        let mut place = vec![0; o.len()];
        for (t, &p) in (0..).zip(o) {
            place[p as usize] = t;
        }
        place
    };
    let make = || orders.iter().flat_map(invert).collect();
    table("scan places", &orders.sizes(), device, make)
}

/// u (…, D), projected (…, K·(R+2N)), parameters (K·D, R+N+2): W_Δ | log −A | skip | bias; as [`crate::SelectiveScan`].
/// Computed in float32.
pub(crate) fn selective_scan(
    u: &Tensor,
    projected: &Tensor,
    parameters: &Tensor,
    orders: &Orders,
    n: usize,
) -> Result<Tensor> {
    if n > MAX_STATES {
        bail!("selective scan: {n} states a channel, at most {MAX_STATES} on CUDA");
    }
    let dtype = parameters.dtype();
    let (u, projected) = (cast(u, dtype)?.contiguous()?, cast(projected, dtype)?.contiguous()?);
    let parameters = parameters.contiguous()?;
    if instead_of(Kernel::Scan, u.device()) {
        let orders = orders.clone();
        return composed3("selective_scan", [&u, &projected, &parameters], dtype, move |args| {
            unpacked(args, &orders, n)
        });
    }
    let z = Sizes {
        b: u.dim(0)?,
        l: orders.positions(),
        d: u.dims()[u.rank() - 1],
        k: orders.directions(),
        n,
        r: parameters.dim(1)? - n - 2,
    };
    let (device, tag) = (u.device(), tag(dtype)?);
    let orders = orders_on(orders, device)?;
    let mut y = Value::new((z.b, z.k, z.l, z.d), dtype, device)?;
    let raw = z.raw(&projected, &parameters)?;
    let operands = [&u, &raw, &projected, &parameters, &orders];
    let states = z.entered("ends", &operands, &parameters, false)?;
    let mut args: Vec<Arg<'_>> = operands.map(Arg::In).into();
    args.extend([Arg::In(&states), Arg::Out(&mut y)]);
    args.extend(z.args());
    let work = Spread::Items(z.b * z.k * z.chunks() * z.d);
    // SAFETY: the arguments are those of kernels/scan.cu, for operands of these sizes.
    unsafe { launch(device, ("scan", &format!("scan_forward_{tag}")), work, &mut args, &[]) }?;
    let y = sum_parts(&y.tensor(), z.b, z.k, z.l * z.d)?.reshape(u.shape())?;
    node3(
        "selective_scan",
        [&u, &projected, &parameters],
        y,
        move |args, _, dy| {
            let [du, dq, dp] = backward(z, args, &orders, &states, dy)?;
            Ok([Some(du), Some(dq), Some(dp)])
        },
    )
}

/// From candle's ops.
fn unpacked([u, projected, parameters]: [&Tensor; 3], orders: &Orders, n: usize) -> Result<Tensor> {
    let (kd, columns) = parameters.dims2()?;
    let (k, r) = (orders.directions(), columns - n - 2);
    let part = |at: usize, len: usize| parameters.narrow(1, at, len)?.contiguous();
    let scan = SelectiveScan {
        u,
        projected,
        dt_weight: &part(0, r)?.reshape((k, kd / k, r))?,
        dt_bias: &part(r + n + 1, 1)?.reshape((k, kd / k))?,
        a_log: &part(r, n)?,
        skip: &part(r + n, 1)?.reshape(kd)?,
    };
    composed(&scan, orders)
}

fn backward(
    z: Sizes,
    [u, projected, parameters]: [&Tensor; 3],
    orders: &Tensor,
    states: &Tensor,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let (device, dtype) = (u.device(), u.dtype());
    let blocks = z.d.div_ceil(WARP);
    let raw = z.raw(projected, parameters)?;
    let mut du = Value::new((z.b, z.k, z.l, z.d), dtype, device)?;
    let mut draw = Value::new((z.k, z.b * z.l, z.d), dtype, device)?;
    let mut shares = Value::new((z.b, blocks, z.l, z.k * 2 * z.n), dtype, device)?;
    let mut tables = Value::new((z.b, z.chunks(), z.k * z.d, z.n + 2), dtype, device)?;
    let operands = [&raw, projected, parameters, orders, dy];
    let grads = z.entered("begins", &operands, parameters, true)?;
    let mut args = vec![
        Arg::In(u),
        Arg::In(&raw),
        Arg::In(projected),
        Arg::In(parameters),
        Arg::In(orders),
        Arg::In(states),
        Arg::In(&grads),
        Arg::In(dy),
        Arg::Out(&mut du),
        Arg::Out(&mut draw),
        Arg::Out(&mut shares),
        Arg::Out(&mut tables),
    ];
    args.extend(z.args());
    let kernel = format!("scan_backward_{}", tag(dtype)?);
    let work = Spread::Rows(z.b * z.k * z.chunks() * blocks);
    // SAFETY: the arguments are those of kernels/scan.cu, for operands of these sizes.
    unsafe { launch(device, ("scan", &kernel), work, &mut args, &[]) }?;
    let (du, draw) = (du.tensor(), draw.tensor());
    let du = sum_parts(&du, z.b, z.k, z.l * z.d)?.tensor();
    let dbc = sum_parts(&shares.tensor(), z.b, blocks, z.l * z.k * 2 * z.n)?.tensor();
    let table = sum_parts(&tables.tensor(), 1, z.b * z.chunks(), z.k * z.d * (z.n + 2))?.tensor();
    // dstep (K, B·L, R) = draw · W_Δ; dW_Δ (K, D, R) = drawᵀ · step.
    let dstep = Value::product(&draw, &z.weights(parameters)?, false)?.tensor();
    let dweight = Value::product(&draw.transpose(1, 2)?, &z.steps(projected)?, false)?.tensor();
    let dbc = dbc.reshape((z.b * z.l, z.k, 2 * z.n))?;
    let dprojected = Tensor::cat(&[&dstep.transpose(0, 1)?.contiguous()?, &dbc], 2)?;
    let table = table.reshape((z.k * z.d, z.n + 2))?;
    let dparameters = Tensor::cat(&[&dweight.reshape((z.k * z.d, z.r))?, &table], 1)?;
    Ok([du, dprojected, dparameters])
}

fn cross(
    kernel: &str,
    x: &Tensor,
    indices: &Tensor,
    shape: &[usize],
    (b, k, l, d): (usize, usize, usize, usize),
) -> Result<Value> {
    let mut y = Value::new(shape, x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/scan.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("scan", &format!("{kernel}_{}", tag(x.dtype())?)),
            Spread::Items(shape.iter().product()),
            &mut [
                Arg::In(x),
                Arg::In(indices),
                Arg::Out(&mut y),
                Arg::U64(b),
                Arg::U32(k),
                Arg::U32(l),
                Arg::U32(d),
            ],
            &[],
        )
    }?;
    Ok(y)
}

/// (B, L, D) → (B, K, L, D).
pub(crate) fn cross_scan(x: &Tensor, orders: &Orders) -> Result<Tensor> {
    let x = x.contiguous()?;
    if instead_of(Kernel::Cross, x.device()) {
        let orders = orders.clone();
        return composed1("cross_scan", &x, x.dtype(), move |[x]| in_orders(x, &orders));
    }
    let ((b, l, d), k) = (x.dims3()?, orders.directions());
    let (there, back) = (orders_on(orders, x.device())?, places_on(orders, x.device())?);
    let y = cross("cross_scan", &x, &there, &[b, k, l, d], (b, k, l, d))?;
    node1("cross_scan", &x, y, move |_, _, dy| {
        Ok([Some(
            cross("cross_merge", dy, &back, &[b, l, d], (b, k, l, d))?.tensor(),
        )])
    })
}

/// (B, K, L, D) → (B, L, D).
pub(crate) fn cross_merge(y: &Tensor, orders: &Orders) -> Result<Tensor> {
    let y = y.contiguous()?;
    let (b, k, l, d) = y.dims4()?;
    if k != orders.directions() {
        bail!("cross merge: {k} directions, {} orders", orders.directions());
    }
    if instead_of(Kernel::Cross, y.device()) {
        let orders = orders.clone();
        return composed1("cross_merge", &y, y.dtype(), move |[y]| from_orders(y, &orders));
    }
    let (there, back) = (orders_on(orders, y.device())?, places_on(orders, y.device())?);
    let x = cross("cross_merge", &y, &back, &[b, l, d], (b, k, l, d))?;
    node1("cross_merge", &y, x, move |_, _, dx| {
        Ok([Some(
            cross("cross_scan", dx, &there, &[b, k, l, d], (b, k, l, d))?.tensor(),
        )])
    })
}
