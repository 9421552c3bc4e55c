//! PyTorch checkpoints (`.pth`, `.pt`, `.bin`): the zip archives that `torch.save` writes, read without executing anything.
//!
//! Such an archive holds `<name>/data.pkl`, a pickle that describes tensors, and `<name>/data/<key>`, their bytes. The pickle
//! runs in a machine of our own (`vm`) that only builds descriptions. Every description is held against the archive before
//! a value is read: a storage must have an entry of exactly its size, stored without compression (as torch does; with that, a
//! few bytes cannot unpack to many), and no two entries may share bytes. Values are read when they are asked for.

mod archive;
mod call;
mod value;
mod vm;

#[cfg(test)]
mod tests;

use crate::error::BadInput;
use anyhow::{Context, Result};
use archive::REMEDY;
use candle_core::{DType, Device, Tensor};
use value::ElementType;

pub use archive::PickleFile;

impl PickleFile {
    /// Copies a tensor out, in its own floating-point type.
    ///
    /// # Errors
    /// [`BadInput`] where its bytes do not have the archive's checksum, or where it holds no floating-point numbers.
    pub fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let (kind, shape) = self.kind(name).zip(self.shape(name)).context("no such tensor")?;
        let dtype = match kind {
            ElementType::F64 => DType::F64,
            ElementType::F32 => DType::F32,
            ElementType::F16 => DType::F16,
            ElementType::BF16 => DType::BF16,
            k => {
                let found = format!("elements of type {k:?}");
                return Err(BadInput::new(&self.at, format!("floating-point numbers in {name}"), found, REMEDY).into());
            }
        };
        Ok(Tensor::from_raw_buffer(&self.elements(name)?, dtype, shape, device)?)
    }
}
