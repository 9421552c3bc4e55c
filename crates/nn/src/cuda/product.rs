//! Matrix products: described as BLAS has them, run by cuBLASLt on a GPU and on the CPU where kernels are emulated.

use super::composed::{instead_of, value, wide};
use super::launch::{Arg, Spread, launch, tag};
use super::matrix::{NO_ALGORITHM, Product};
use crate::autograd::Value;
use crate::copies;
use crate::emulation::{self, LibraryProduct};
use crate::fallback::Kernel;
use crate::precision::{Compute, computed_in, current};
use candle_core::{CpuStorage, D, DType, Device, Error, Result, Shape, Storage, Tensor, bail};

/// Whether cuBLASLt has no algorithm for a product.
fn is_refused(e: &Error) -> bool {
    e.to_string().contains(NO_ALGORITHM)
}

/// float32 as the tensor cores read it in TF32: 10 bits of fraction.
fn tf32(x: f32) -> f32 {
    let bits = x.to_bits();
    if x.is_finite() {
        f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
    } else {
        x
    }
}

/// What a product does besides, in the same pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    /// Added along the last axis; cast to the result's type first.
    pub bias: Option<&'a Tensor>,
    /// What the result is added to: of its shape, and float32 (float64), as the result is then.
    pub onto: Option<&'a Tensor>,
    /// Whether the sums of the left operand's rows are wanted, in the type of its sums: the gradient of a bias, where the operand is
    /// a transposed gradient.
    pub sums: bool,
}

impl Extras<'_> {
    fn any(&self) -> bool {
        self.bias.is_some() || self.onto.is_some() || self.sums
    }
}

impl Value {
    /// `x · y`, batched over the leading axes; operands may be transposed views. The result has the operands' type, or is float32
    /// where `float`; sums are float32 (float64 of float64) in any case.
    pub(crate) fn product(x: &Tensor, y: &Tensor, float: bool) -> Result<Self> {
        Ok(Self::product_and(x, y, Extras::default(), float)?.0)
    }

    /// `x · y` with extras, rounded to the result's type once, and the sums where they are wanted.
    pub(crate) fn product_and(
        x: &Tensor,
        y: &Tensor,
        extras: Extras<'_>,
        float: bool,
    ) -> Result<(Self, Option<Tensor>)> {
        let p = Product::new(x.layout(), y.layout())?;
        if x.dtype() != y.dtype() {
            bail!("a product of {:?} and {:?}", x.dtype(), y.dtype());
        }
        let wide = computed_in(x.dtype());
        let dtype = if float { wide } else { x.dtype() };
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = p.d.rows;
        }
        let wrong = extras.bias.is_some_and(|b| b.dims() != [p.d.rows])
            || extras
                .onto
                .is_some_and(|o| o.dims() != shape || o.dtype() != dtype || dtype != wide);
        if wrong || (extras.sums && p.batch > 1) {
            bail!("product of {:?} and {:?} with {extras:?}", x.dims(), y.dims());
        }
        if instead_of(Kernel::Product, x.device()) {
            return Self::by_candle(x, y, extras, dtype);
        }
        let bias = extras.bias.map(|b| copies::of(b, dtype)).transpose()?;
        let extras = Extras {
            bias: bias.as_ref(),
            ..extras
        };
        // cuBLASLt has been seen to refuse biases of products with a side of length 1.
        if !extras.any() || (p.d.rows > 1 && p.d.columns > 1 && p.depth() > 1) {
            match Self::multiplied(&p, x, y, extras, dtype, &shape) {
                // Without extras it may have one, and there is cuBLAS.
                Err(e) if is_refused(&e) && extras.any() => {}
                done => return done,
            }
        }
        let sums = if extras.sums {
            Some(super::columns::column_sums(&x.t()?.contiguous()?)?)
        } else {
            None
        };
        if extras.bias.is_none() && extras.onto.is_none() {
            let (z, _) = Self::multiplied(&p, x, y, Extras::default(), dtype, &shape)?;
            return Ok((z, sums));
        }
        let mut z = Self::multiplied(&p, x, y, Extras::default(), wide, &shape)?.0;
        if let Some(bias) = extras.bias {
            z = with_bias(&z.tensor(), bias)?;
        }
        if let Some(onto) = extras.onto {
            z = super::residual::sum(onto, &z.tensor())?;
        }
        Ok((z, sums))
    }

    /// The same by candle's own call of cuBLAS, for what cuBLASLt has no algorithm for or is not to compute; sums are as wide.
    fn by_candle(x: &Tensor, y: &Tensor, extras: Extras<'_>, dtype: DType) -> Result<(Self, Option<Tensor>)> {
        let left = wide(x)?;
        let mut z = left.matmul(&wide(y)?)?;
        if let Some(bias) = extras.bias {
            z = z.broadcast_add(&wide(bias)?)?;
        }
        if let Some(onto) = extras.onto {
            z = (z + wide(onto)?)?;
        }
        let sums = if extras.sums { Some(left.sum(D::Minus1)?) } else { None };
        Ok((Self::copy_of(&z.to_dtype(dtype)?)?, sums))
    }

    fn multiplied(
        p: &Product,
        x: &Tensor,
        y: &Tensor,
        extras: Extras<'_>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<(Self, Option<Tensor>)> {
        match x.device() {
            Device::Cpu => Self::stand_in(p, x, y, extras, dtype, shape),
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => {
                let ((sx, lx), (sy, ly)) = (x.storage_and_layout(), y.storage_and_layout());
                let (Storage::Cuda(cx), Storage::Cuda(cy)) = (&*sx, &*sy) else {
                    bail!("a product of operands on different devices");
                };
                let at = |t: Option<&Tensor>| -> Result<Option<u64>> {
                    t.map(|t| {
                        let (s, l) = t.storage_and_layout();
                        Ok(super::launch::address(&s, l)?.0)
                    })
                    .transpose()
                };
                let rows = p.d.columns;
                let mut sums = if extras.sums {
                    Some(Self::new(rows, computed_in(x.dtype()), x.device())?)
                } else {
                    None
                };
                let places = super::lt::Places {
                    bias: match &mut sums {
                        Some(s) => Some(super::launch::address_mut(&mut s.storage)?),
                        None => at(extras.bias)?,
                    },
                    sums: extras.sums,
                    onto: at(extras.onto)?,
                };
                let (a, b) = ((cy, ly.start_offset()), (cx, lx.start_offset()));
                let z = match super::lt::multiply(p, a, b, places, dtype) {
                    Err(e) if is_refused(&e) && !extras.any() => Self::by_candle(x, y, extras, dtype)?.0,
                    done => Self {
                        storage: Storage::Cuda(done?),
                        shape: Shape::from(shape),
                    },
                };
                Ok((z, sums.map(Self::tensor)))
            }
            d => bail!("there are no products on {:?}", d.location()),
        }
    }

    /// What cuBLASLt does, on the CPU: operands of 16 bits have exact products in float32, sums are float32 as on the device.
    fn stand_in(
        p: &Product,
        x: &Tensor,
        y: &Tensor,
        extras: Extras<'_>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<(Self, Option<Tensor>)> {
        let wide = computed_in(x.dtype());
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let sums_bytes = if extras.sums {
            p.d.columns * wide.size_in_bytes()
        } else {
            0
        };
        let told = LibraryProduct {
            m: p.d.columns,
            n: p.d.rows,
            k: p.depth(),
            batch: p.batch,
            bytes: size(x)
                + size(y)
                + shape.iter().product::<usize>() * dtype.size_in_bytes()
                + extras.bias.map_or(0, size)
                + extras.onto.map_or(0, size)
                + sums_bytes,
            bias: extras.bias.is_some(),
            onto: extras.onto.is_some(),
            sums: extras.sums,
        };
        if let Some(e) = emulation::executor()
            && !e.product(&told)?
        {
            let sums = extras.sums.then(|| Self::new(p.d.columns, wide, x.device()));
            return Ok((
                Self::new(shape, dtype, x.device())?,
                sums.transpose()?.map(Self::tensor),
            ));
        }
        let (x, y) = (x.detach().to_dtype(wide)?, y.detach().to_dtype(wide)?);
        let p = Product::new(x.layout(), y.layout())?;
        let storage = {
            let ((sx, lx), (sy, ly)) = (x.storage_and_layout(), y.storage_and_layout());
            let (ox, oy) = (lx.start_offset(), ly.start_offset());
            match (&*sx, &*sy) {
                (Storage::Cpu(CpuStorage::F32(x)), Storage::Cpu(CpuStorage::F32(y))) => {
                    CpuStorage::F32(if current() == Compute::Tf32 {
                        let rounded = |v: &[f32]| v.iter().map(|&v| tf32(v)).collect::<Vec<_>>();
                        p.multiply(&rounded(&y[oy..]), &rounded(&x[ox..]))?
                    } else {
                        p.multiply(&y[oy..], &x[ox..])?
                    })
                }
                (Storage::Cpu(CpuStorage::F64(x)), Storage::Cpu(CpuStorage::F64(y))) => {
                    CpuStorage::F64(p.multiply(&y[oy..], &x[ox..])?)
                }
                _ => bail!("a product of operands on different devices, or of a type without products"),
            }
        };
        let z = Self {
            storage: Storage::Cpu(storage),
            shape: Shape::from(shape),
        };
        let mut z = z.tensor();
        if let Some(onto) = extras.onto {
            z = (z + onto.detach())?;
        }
        if let Some(bias) = extras.bias {
            z = z.broadcast_add(&bias.detach().to_dtype(wide)?)?;
        }
        let sums = if extras.sums { Some(x.sum(D::Minus1)?) } else { None };
        Ok((Self::copy_of(&z.to_dtype(dtype)?)?, sums))
    }
}

/// Sums with a bias along the last axis, in the bias's type.
fn with_bias(sums: &Tensor, bias: &Tensor) -> Result<Value> {
    if instead_of(Kernel::Bias, sums.device()) {
        return value([sums, bias], bias.dtype(), |[sums, bias]| sums.broadcast_add(bias));
    }
    let mut z = Value::new(sums.shape(), bias.dtype(), sums.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            sums.device(),
            ("elementwise", &format!("add_bias_{}", tag(bias.dtype())?)),
            Spread::Items(sums.elem_count()),
            &mut [
                Arg::In(sums),
                Arg::In(bias),
                Arg::Out(&mut z),
                Arg::U64(sums.elem_count()),
                Arg::U32(bias.elem_count()),
            ],
            &[],
        )
    }?;
    Ok(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Sums in float64 by indices alone, of any layout.
    fn by_indices(x: &Tensor, y: &Tensor) -> Vec<f64> {
        let to = |t: &Tensor| t.contiguous().unwrap().to_vec3::<f64>().unwrap();
        let (x, y) = (to(x), to(y));
        let mut z = Vec::new();
        for (x, y) in x.iter().zip(&y) {
            for row in x {
                for j in 0..y[0].len() {
                    z.push(row.iter().zip(y).map(|(v, y)| v * y[j]).sum());
                }
            }
        }
        z
    }

    /// (b, rows, columns) of whole numbers, so that sums are exact, in every way a tensor may lie that is not refused.
    fn operands(b: usize, rows: usize, columns: usize) -> Vec<Tensor> {
        let make = |b: usize, rows: usize, columns: usize| {
            let v: Vec<f64> = (0..b * rows * columns).map(|i| (i * 7 % 19) as f64 - 9.0).collect();
            Tensor::from_vec(v, (b, rows, columns), &Device::Cpu).unwrap()
        };
        let narrow = |t: Tensor, axis: usize, n: usize| t.narrow(axis, 2, n).unwrap();
        vec![
            make(b, rows, columns),
            make(b, columns, rows).transpose(1, 2).unwrap(),
            // Rows, columns and matrices of a larger tensor.
            narrow(make(b, rows, columns + 5), 2, columns),
            narrow(make(b, columns, rows + 3), 2, rows).transpose(1, 2).unwrap(),
            narrow(make(b, rows + 3, columns), 1, rows),
            narrow(make(b + 2, rows, columns), 0, b),
            // Heads inside rows, and one matrix for the whole batch.
            make(rows, b, columns).transpose(0, 1).unwrap(),
            make(1, rows, columns).broadcast_as((b, rows, columns)).unwrap(),
        ]
    }

    #[test]
    fn products_of_all_layouts() {
        for (b, m, n, k) in [
            (1, 3, 5, 4),
            (3, 4, 2, 6),
            (2, 1, 4, 3),
            (2, 4, 1, 3),
            (2, 3, 4, 1),
            (1, 1, 1, 1),
        ] {
            for x in &operands(b, m, k) {
                for y in &operands(b, k, n) {
                    let z = Value::product(x, y, false).unwrap();
                    assert_eq!(z.dims(), [b, m, n]);
                    let z: Vec<f64> = z.tensor().flatten_all().unwrap().to_vec1().unwrap();
                    assert_eq!(z, by_indices(x, y), "{:?} and {:?}", x.layout(), y.layout());
                }
            }
        }
    }

    /// What lies in every other element, and leading axes that are not one, are refused rather than read wrongly.
    #[test]
    fn other_layouts_are_refused() {
        let t = Tensor::zeros((4, 3, 6, 2), DType::F64, &Device::Cpu).unwrap();
        let every_other = t.narrow(3, 0, 1).unwrap().squeeze(3).unwrap();
        let y = Tensor::zeros((4, 6, 2), DType::F64, &Device::Cpu).unwrap();
        assert!(Value::product(&every_other, &y, false).is_err());
        let swapped = t.transpose(0, 1).unwrap();
        let y = Tensor::zeros((3, 4, 2, 5), DType::F64, &Device::Cpu).unwrap();
        assert!(Value::product(&swapped, &y, false).is_err());
        assert!(Value::product(&swapped.contiguous().unwrap(), &y, false).is_ok());
    }

    #[test]
    fn tf32_keeps_ten_bits() {
        for (x, y) in [
            (1.0, 1.0),
            (1.0 + 2f32.powi(-10), 1.0 + 2f32.powi(-10)),
            // Half a step goes to the even neighbour, more than half up.
            (1.0 + 2f32.powi(-11), 1.0),
            (1.0 + 3.0 * 2f32.powi(-11), 1.0 + 2f32.powi(-9)),
            (-1.0 - 2f32.powi(-11) - 2f32.powi(-20), -1.0 - 2f32.powi(-10)),
            (f32::INFINITY, f32::INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(tf32(x), y, "{x}");
        }
        assert!(tf32(f32::NAN).is_nan());
    }
}
