//! The unfold of a channels-last map, forward and backward.

use super::cpu::{Real, add_assign, par_filled, slice, with_cpu};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// (B, H, W, C) → (B, Ho·Wo, k·k·C), zero-padded.
#[derive(Clone, Copy)]
pub(crate) struct UnfoldMap {
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out: (usize, usize),
}

impl UnfoldMap {
    /// The input coordinate that tap `i` of output `o` reads, if it lies inside `n`.
    #[inline(always)]
    fn source(&self, o: usize, i: usize, n: usize) -> Option<usize> {
        (o * self.stride + i).checked_sub(self.padding).filter(|&s| s < n)
    }
}

impl UnfoldMap {
    /// The same from candle's ops.
    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        let (b, _, _, c) = x.dims4()?;
        let ((ho, wo), p) = (self.out, self.padding);
        let x = x.pad_with_zeros(1, p, p)?.pad_with_zeros(2, p, p)?.contiguous()?;
        // The coordinates that a tap reads along one axis.
        let read = |tap: usize, n: usize| {
            let at: Vec<u32> = (0..n).map(|o| (o * self.stride + tap) as u32).collect();
            Tensor::from_vec(at, n, x.device())
        };
        let mut taps = Vec::with_capacity(self.k * self.k);
        for i in 0..self.k {
            let lines = x.index_select(&read(i, ho)?, 1)?;
            for j in 0..self.k {
                taps.push(lines.index_select(&read(j, wo)?, 2)?);
            }
        }
        Tensor::cat(&taps, 3)?.reshape((b, ho * wo, self.k * self.k * c))
    }
}

impl CustomOp1 for UnfoldMap {
    fn name(&self) -> &'static str {
        "unfold_map"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &UnfoldMap, s: &CpuStorage, l: &Layout) -> Result<CpuStorage> {
            let x = slice::<T>("unfold_map", s, l)?;
            let (b, h, w, c) = l.shape().dims4()?;
            let ((ho, wo), row) = (op.out, op.k * op.k * c);
            // A row is a line of the output; taps beside the map stay zero.
            let y = par_filled(b * ho, wo * row, |lines, out| {
                for (t, line) in lines.zip(out.chunks_exact_mut(wo * row)) {
                    for (tap, cell) in line.chunks_exact_mut(c).enumerate() {
                        let (ox, tap) = (tap / (op.k * op.k), tap % (op.k * op.k));
                        if let (Some(iy), Some(ix)) = (op.source(t % ho, tap / op.k, h), op.source(ox, tap % op.k, w)) {
                            cell.copy_from_slice(&x[((t / ho * h + iy) * w + ix) * c..][..c]);
                        }
                    }
                }
            });
            Ok(T::to_cpu_storage_owned(y))
        }
        let y = match s.dtype() {
            DType::F32 => typed::<f32>(self, s, l)?,
            DType::F64 => typed::<f64>(self, s, l)?,
            t => bail!("unfold_map: {t:?} is not supported on the CPU"),
        };
        let (b, _, _, c) = l.shape().dims4()?;
        Ok((y, Shape::from((b, self.out.0 * self.out.1, self.k * self.k * c))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        fn typed<T: Real>(op: &UnfoldMap, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
            let (b, h, w, c) = x.dims4()?;
            let ((ho, wo), kk) = (op.out, op.k * op.k);
            let (s, l) = dy.storage_and_layout();
            let g = with_cpu::<T>(&s, l)?;
            // The outputs that read input coordinate `i`, with their taps; ascending, so that the order of sums is fixed.
            let readers = |i: usize, n: usize| -> Vec<(usize, usize)> {
                (0..op.k)
                    .rev()
                    .filter_map(|tap| {
                        let o = (i + op.padding).checked_sub(tap)?;
                        (o.is_multiple_of(op.stride) && o / op.stride < n).then_some((o / op.stride, tap))
                    })
                    .collect()
            };
            let columns: Vec<_> = (0..w).map(|ix| readers(ix, wo)).collect();
            let mut dx = vec![T::default(); b * h * w * c];
            dx.par_chunks_mut(w * c).enumerate().for_each(|(t, line)| {
                for (oy, i) in readers(t % h, ho) {
                    for (cell, cols) in line.chunks_exact_mut(c).zip(&columns) {
                        for &(ox, j) in cols {
                            let at = (((t / h * ho + oy) * wo + ox) * kk + i * op.k + j) * c;
                            add_assign(cell, &g[at..at + c]);
                        }
                    }
                }
            });
            Tensor::from_vec(dx, x.shape(), &Device::Cpu)
        }
        let dy = dy.contiguous()?;
        Ok(Some(match x.dtype() {
            DType::F64 => typed::<f64>(self, x, &dy)?,
            _ => typed::<f32>(self, x, &dy)?,
        }))
    }
}
