//! Changing the resolution of channels-last maps: max pooling and nearest-neighbour enlargement.

use super::cpu::{Real, par_filled, simd_fn, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Max pooling with kernel = stride = (py, px). x (B, H, W, C) → (B, H/py, W/px, C), rest of the border dropped.
///
/// Of equal values the first in reading order gets the gradient, as in torch.
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn max_pool(x: &Tensor, (py, px): (usize, usize)) -> Result<Tensor> {
    if py == 0 || px == 0 || x.rank() != 4 {
        bail!("max_pool: a stride of {py}×{px} on {:?}", x.dims());
    }
    if uses_kernels(x) {
        return cuda::max_pool(x, (py, px));
    }
    x.contiguous()?.apply_op1(MaxPool { py, px })
}

/// The same from candle's ops; of equal values too the first gets the gradient, which candle's own maximum would give to each.
pub(crate) fn composed(x: &Tensor, (py, px): (usize, usize)) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let (oh, ow) = (h / py, w / px);
    let x = x.narrow(1, 0, oh * py)?.narrow(2, 0, ow * px)?.contiguous()?;
    let x = x.reshape((b * oh, py, ow, px, c))?;
    let tap = |i: usize| -> Result<Tensor> { x.narrow(1, i / px, 1)?.narrow(3, i % px, 1)?.contiguous() };
    let mut y = tap(0)?;
    for i in 1..py * px {
        let other = tap(i)?;
        y = other.gt(&y)?.where_cond(&other, &y)?;
    }
    y.reshape((b, oh, ow, c))
}

/// Doubles both sides of a map, each pixel repeated. x (B, H, W, C) → (B, 2H, 2W, C).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?
        .broadcast_as((b, h, 2, w, 2, c))?
        .contiguous()?
        .reshape((b, 2 * h, 2 * w, c))
}

struct MaxPool {
    py: usize,
    px: usize,
}

simd_fn! {
    fn max_assign<T>(y: &mut [T], x: &[T]) {
        for (a, &b) in y.iter_mut().zip(x) {
            *a = if b > *a { b } else { *a };
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = l.shape().dims4()?;
        let (oh, ow) = (h / self.py, w / self.px);
        fn typed<T: Real>(op: &MaxPool, s: &CpuStorage, l: &Layout, (oh, ow): (usize, usize)) -> Result<CpuStorage> {
            let x = slice::<T>("max_pool", s, l)?;
            let (b, h, w, c) = l.shape().dims4()?;
            let y = par_filled(b * oh, ow * c, |lines, out| {
                for (t, line) in lines.zip(out.chunks_exact_mut((ow * c).max(1))) {
                    for (ox, o) in line.chunks_exact_mut(c).enumerate() {
                        for i in 0..op.py * op.px {
                            let (iy, ix) = (t % oh * op.py + i / op.px, ox * op.px + i % op.px);
                            let v = &x[((t / oh * h + iy) * w + ix) * c..][..c];
                            if i == 0 {
                                o.copy_from_slice(v);
                            } else {
                                max_assign(o, v);
                            }
                        }
                    }
                }
            });
            Ok(T::to_cpu_storage_owned(y))
        }
        let y = match s.dtype() {
            DType::F32 => typed::<f32>(self, s, l, (oh, ow))?,
            DType::F64 => typed::<f64>(self, s, l, (oh, ow))?,
            t => bail!("max_pool: {t:?} is not supported on the CPU"),
        };
        Ok((y, Shape::from((b, oh, ow, c))))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        fn typed<T: Real>(op: &MaxPool, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
            let (b, h, w, c) = x.dims4()?;
            let (oh, ow) = (h / op.py, w / op.px);
            let ((xs, xl), (ys, yl), (gs, gl)) =
                (x.storage_and_layout(), y.storage_and_layout(), dy.storage_and_layout());
            let (xv, yv, gv) = (
                with_cpu::<T>(&xs, xl)?,
                with_cpu::<T>(&ys, yl)?,
                with_cpu::<T>(&gs, gl)?,
            );
            let mut dx = vec![T::default(); b * h * w * c];
            // One task per image: a line of the output touches `py` lines of the input, and a rest belongs to none.
            dx.par_chunks_mut(h * w * c).enumerate().for_each(|(n, img)| {
                for o in 0..oh * ow {
                    let at = (n * oh * ow + o) * c;
                    for ch in 0..c {
                        let first = (0..op.py * op.px)
                            .map(|i| ((o / ow * op.py + i / op.px) * w + o % ow * op.px + i % op.px) * c + ch)
                            .find(|&i| xv[n * h * w * c + i] == yv[at + ch]);
                        if let Some(i) = first {
                            img[i] = gv[at + ch];
                        }
                    }
                }
            });
            Tensor::from_vec(dx, x.shape(), &Device::Cpu)
        }
        let (y, dy) = (y.contiguous()?, dy.contiguous()?);
        Ok(Some(match x.dtype() {
            DType::F64 => typed::<f64>(self, x, &y, &dy)?,
            _ => typed::<f32>(self, x, &y, &dy)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, random};
    use super::*;

    #[test]
    fn pooling_and_enlarging() {
        check("max_pool", &[&[2, 4, 6, 5]], |x| max_pool(&x[0], (2, 2)));
        check("max_pool", &[&[1, 5, 7, 3]], |x| max_pool(&x[0], (2, 3)));
        check("max_pool, composed", &[&[1, 5, 7, 3]], |x| composed(&x[0], (2, 3)));
        check("upsample", &[&[2, 3, 2, 5]], |x| upsample_nearest(&x[0]));
        let x = random(&[2, 5, 7, 3], 1);
        let d = (max_pool(&x, (2, 2)).unwrap() - composed(&x, (2, 2)).unwrap()).unwrap();
        assert_eq!(d.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
    }

    #[test]
    fn the_first_of_equal_values_gets_the_gradient() {
        for pool in [max_pool, composed] {
            let x = candle_core::Var::ones((1, 2, 2, 1), DType::F64, &Device::Cpu).unwrap();
            let y = pool(x.as_tensor(), (2, 2)).unwrap();
            let g = y.sum_all().unwrap().backward().unwrap();
            let g: Vec<f64> = g.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(g, [1.0, 0.0, 0.0, 0.0]);
        }
    }
}
