//! Results that are not part of any graph yet.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

#[cfg(feature = "cuda")]
use candle_core::backend::BackendDevice;

/// A result that is not a tensor yet: its memory may still be written.
pub(crate) struct Value {
    pub(crate) storage: Storage,
    pub(crate) shape: Shape,
}

impl Value {
    /// Memory for a result, all of which is written before anything reads it. On the CPU it is filled with NaN (or the largest
    /// whole number), so that a test sees what was forgotten.
    pub(crate) fn new(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Self> {
        let shape = shape.into();
        let n = shape.elem_count();
        let storage = match device {
            Device::Cpu => Storage::Cpu(match dtype {
                DType::U32 => CpuStorage::U32(vec![u32::MAX; n]),
                DType::I64 => CpuStorage::I64(vec![i64::MAX; n]),
                DType::BF16 => CpuStorage::BF16(vec![half::bf16::NAN; n]),
                DType::F16 => CpuStorage::F16(vec![half::f16::NAN; n]),
                DType::F32 => CpuStorage::F32(vec![f32::NAN; n]),
                DType::F64 => CpuStorage::F64(vec![f64::NAN; n]),
                t => bail!("there are no results of {t:?}"),
            }),
            // SAFETY: kernels write every element before anything reads one.
            #[cfg(feature = "cuda")]
            Device::Cuda(d) => Storage::Cuda(unsafe { d.alloc_uninit(&shape, dtype)? }),
            d => bail!("there are no kernels for {:?}", d.location()),
        };
        Ok(Self { storage, shape })
    }

    /// A copy of a contiguous tensor's values.
    pub(crate) fn copy_of(x: &Tensor) -> Result<Self> {
        let (s, l) = x.storage_and_layout();
        Ok(Self {
            storage: s.try_clone(l)?,
            shape: x.shape().clone(),
        })
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub(crate) fn reshape(mut self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() != self.shape.elem_count() {
            bail!("{:?} as {:?}", self.shape, shape);
        }
        self.shape = shape;
        Ok(self)
    }

    /// The finished result, without a graph.
    pub(crate) fn tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }

    pub(super) fn into_parts(self) -> (Storage, Shape) {
        (self.storage, self.shape)
    }
}
