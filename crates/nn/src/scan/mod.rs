//! The selective scan of VMamba over a map, in all directions at once, in one differentiable op.
//!
//! Upstream copies the map four times (rows, columns, both reversed), expands the step sizes to one value per direction,
//! channel and position, scans, and adds the four results. Here a direction is an order of positions, and the step sizes are
//! formed from their low-rank factors where they are used: nothing of size (B, 4, D, L) is ever stored. The forward pass
//! keeps the state at every 64th step; the backward pass recomputes the steps between. A task is an image and 64 channels, so
//! sums over images and channels run over pieces that depend on shapes only.

mod composed;
mod kernels;
mod orders;
mod run;

use super::cpu::{Real, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};
pub use composed::{cross_merge, cross_scan};
pub(crate) use composed::{from_orders, in_orders, run as composed};
pub use orders::Orders;
use run::{Sizes, backward, forward};
use std::sync::OnceLock;

/// The operands of a selective scan with K directions, D channels, N states a channel and step sizes of rank R.
#[derive(Debug, Clone, Copy)]
pub struct SelectiveScan<'a> {
    /// (B, H, W, D) or (B, L, D), positions in the map's order.
    pub u: &'a Tensor,
    /// (B, H, W, K·(R+2N)) or (B, L, …), in the map's order: for each direction step input, B and C.
    pub projected: &'a Tensor,
    /// (K, D, R).
    pub dt_weight: &'a Tensor,
    /// (K, D).
    pub dt_bias: &'a Tensor,
    /// (K·D, N); A = −exp of it.
    pub a_log: &'a Tensor,
    /// (K·D): what of `u` is added to the result.
    pub skip: &'a Tensor,
}

impl SelectiveScan<'_> {
    /// Scans in every order and adds the results: the shape of `u`, in the map's order.
    ///
    /// Δ = softplus(W_Δ·step + bias); h ← exp(Δ·A)·h + Δ·B·u; y = C·h + skip·u.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn run(&self, orders: &Orders) -> Result<Tensor> {
        let (&[_, ref positions @ .., d], &[.., q]) = (self.u.dims(), self.projected.dims()) else {
            bail!("selective scan: u {:?}", self.u.dims());
        };
        let (k, dk, r) = self.dt_weight.dims3()?;
        let (kd, n) = self.a_log.dims2()?;
        let rank = self.u.rank();
        let fits = k == orders.directions()
            && positions.iter().product::<usize>() == orders.positions()
            && (dk, kd, q) == (d, k * d, k * (r + 2 * n))
            && self.projected.rank() == rank
            && self.projected.dims()[..rank - 1] == self.u.dims()[..rank - 1]
            && self.skip.dims() == [kd]
            && self.dt_bias.dims() == [k, d];
        if !fits {
            bail!(
                "selective scan: u {:?}, projected {:?}, steps {:?}, A {:?}, {k} directions",
                self.u.dims(),
                self.projected.dims(),
                self.dt_weight.dims(),
                self.a_log.dims()
            );
        }
        // One operand for all parameters of a channel, since an op has three at most: W_Δ | log −A | skip | bias.
        let parameters = Tensor::cat(
            &[
                &self.dt_weight.reshape((kd, r))?,
                self.a_log,
                &self.skip.reshape((kd, 1))?,
                &self.dt_bias.reshape((kd, 1))?,
            ],
            1,
        )?;
        if uses_kernels(self.u) {
            return cuda::selective_scan(self.u, self.projected, &parameters, orders, n);
        }
        let op = ScanOp {
            orders: orders.clone(),
            n,
            states: OnceLock::new(),
        };
        self.u
            .contiguous()?
            .apply_op3(&self.projected.contiguous()?, &parameters.contiguous()?, op)
    }
}

struct ScanOp {
    orders: Orders,
    n: usize,
    /// States at the start of every chunk, kept for the backward pass.
    states: OnceLock<Tensor>,
}

impl ScanOp {
    fn sizes(&self, u: &[usize], parameters: &[usize]) -> Sizes {
        Sizes {
            b: u[0],
            l: self.orders.positions(),
            d: u[u.len() - 1],
            k: self.orders.directions(),
            n: self.n,
            r: parameters[1] - self.n - 2,
        }
    }
}

impl CustomOp3 for ScanOp {
    fn name(&self) -> &'static str {
        "selective_scan"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &ScanOp, s: [&CpuStorage; 3], l: [&Layout; 3]) -> Result<CpuStorage> {
            let (u, q, p) = (
                slice::<T>("selective_scan", s[0], l[0])?,
                slice::<T>("selective_scan", s[1], l[1])?,
                slice::<T>("selective_scan", s[2], l[2])?,
            );
            let (y, states) = forward(op.sizes(l[0].dims(), l[2].dims()), &op.orders, u, q, p);
            let len = states.len();
            let _ = op.states.set(Tensor::from_vec(states, len, &Device::Cpu)?);
            Ok(T::to_cpu_storage_owned(y))
        }
        let (s, l) = ([s1, s2, s3], [l1, l2, l3]);
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>(self, s, l)?,
            DType::F64 => typed::<f64>(self, s, l)?,
            t => bail!("selective_scan: {t:?} is not supported on the CPU"),
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        u: &Tensor,
        q: &Tensor,
        p: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(op: &ScanOp, [u, q, p]: [&Tensor; 3], dy: &Tensor) -> Result<[Tensor; 3]> {
            let Some(states) = op.states.get() else {
                bail!("selective_scan: backward before forward");
            };
            let z = op.sizes(u.dims(), p.dims());
            let ((us, ul), (qs, ql), (ps, pl)) =
                (u.storage_and_layout(), q.storage_and_layout(), p.storage_and_layout());
            let ((ss, sl), (gs, gl)) = (states.storage_and_layout(), dy.storage_and_layout());
            let operands = (
                with_cpu::<T>(&us, ul)?,
                with_cpu::<T>(&qs, ql)?,
                with_cpu::<T>(&ps, pl)?,
            );
            let (sv, gv) = (with_cpu::<T>(&ss, sl)?, with_cpu::<T>(&gs, gl)?);
            let [du, dq, dp] = backward(z, &op.orders, operands, sv, gv);
            Ok([
                Tensor::from_vec(du, u.shape(), &Device::Cpu)?,
                Tensor::from_vec(dq, q.shape(), &Device::Cpu)?,
                Tensor::from_vec(dp, p.shape(), &Device::Cpu)?,
            ])
        }
        let dy = dy.contiguous()?;
        let [du, dq, dp] = match u.dtype() {
            DType::F64 => typed::<f64>(self, [u, q, p], &dy)?,
            _ => typed::<f32>(self, [u, q, p], &dy)?,
        };
        Ok((Some(du), Some(dq), Some(dp)))
    }
}
