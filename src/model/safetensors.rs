//! The safetensors format, on a mapped file.

use crate::error::BadInput;
use crate::mapped::MappedFile;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const REMEDY: &str = "Fetch the file again and verify it with `medft weights verify`.";

/// A `.safetensors` file: names, shapes, and values on demand.
pub struct SafetensorsFile {
    at: String,
    map: MappedFile,
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl SafetensorsFile {
    /// # Errors
    /// [`BadInput`] where the file cannot be read, or its header does not describe exactly the bytes that follow.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |found: String| BadInput::new(path.display(), "a safetensors file", found, REMEDY);
        let map = MappedFile::open(path).map_err(|e| bad(e.to_string()))?;
        let (header, metadata) = SafeTensors::read_metadata(map.as_ref()).map_err(|e| bad(e.to_string()))?;
        // After the length of the header (8 bytes) and the header.
        let data = header + 8;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, t)| {
                let (start, end) = t.data_offsets;
                let stored = Stored {
                    dtype: t.dtype,
                    shape: t.shape.clone(),
                    bytes: data + start..data + end,
                };
                (name, stored)
            })
            .collect();
        Ok(Self {
            at: path.display().to_string(),
            map,
            tensors,
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// Copies a tensor out, in its own floating-point type.
    ///
    /// # Errors
    /// [`BadInput`] where it holds no floating-point numbers.
    pub fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let t = self.tensors.get(name).context("no such tensor")?;
        let dtype = match t.dtype {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            d => {
                let expected = format!("floating-point numbers in {name}");
                return Err(BadInput::new(&self.at, expected, format!("elements of type {d:?}"), REMEDY).into());
            }
        };
        let copy = Tensor::from_raw_buffer(&self.map.as_ref()[t.bytes.clone()], dtype, &t.shape, device)?;
        self.map.forget(t.bytes.clone());
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), bytes).unwrap();
        f
    }

    /// Header length, header, data: by hand, as the format's description says.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    const HEADER: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}"#;

    #[test]
    fn tensors_are_copied_out_of_the_file() {
        let data = [&1.5f32.to_le_bytes()[..], &(-2f32).to_le_bytes(), &7i64.to_le_bytes()].concat();
        let f = written(&file(HEADER, &data));
        let s = SafetensorsFile::open(f.path()).unwrap();
        assert_eq!(s.names().collect::<Vec<_>>(), ["a", "n"]);
        assert_eq!(s.shape("a"), Some(&[2][..]));
        for _ in 0..2 {
            // Again after its pages were handed back.
            assert_eq!(
                s.load("a", &Device::Cpu).unwrap().to_vec1::<f32>().unwrap(),
                [1.5, -2.0]
            );
        }
        let e = s.load("n", &Device::Cpu).unwrap_err();
        assert!(
            e.downcast_ref::<BadInput>().is_some() && e.to_string().contains("I64"),
            "{e}"
        );
    }

    #[test]
    fn every_truncation_and_a_longer_file_are_refused() {
        let whole = file(HEADER, &[0; 16]);
        let refused = |bytes: &[u8]| {
            let e = SafetensorsFile::open(written(bytes).path()).err().unwrap();
            assert!(e.downcast_ref::<BadInput>().is_some(), "{e:?}");
        };
        for n in 0..whole.len() {
            refused(&whole[..n]);
        }
        refused(&[whole.as_slice(), &[0]].concat());
        refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    }
}
