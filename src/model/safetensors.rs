//! The safetensors format, read tensor by tensor: while a model is loaded, the file is not in memory beside it.

use crate::error::BadInput;
use crate::fsio::HashedFile;
use crate::limits;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const REMEDY: &str = "Fetch the file again and verify it with `medft weights verify`.";

/// A `.safetensors` file: names, shapes, and values on demand.
pub struct SafetensorsFile {
    at: String,
    file: HashedFile,
    tensors: BTreeMap<String, Stored>,
    /// What the header says besides.
    facts: BTreeMap<String, String>,
}

/// Float32 values as little-endian bytes.
pub fn as_bytes(x: &[f32]) -> &[u8] {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "checkpoints are written on little-endian machines"
        )
    };
    bytemuck::cast_slice(x)
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<u64>,
}

impl SafetensorsFile {
    /// Opens a file that must hash to `sha256`, where that is given.
    ///
    /// # Errors
    /// [`BadInput`] where the file cannot be read, is not the verified one, or its header does not describe exactly the bytes
    /// that follow.
    pub fn open(path: &Path, sha256: Option<&str>) -> Result<Self> {
        let bad = |found: String| BadInput::new(path.display(), "a safetensors file", found, REMEDY);
        Self::of(path, HashedFile::open(path, sha256).map_err(|e| bad(e.to_string()))?)
    }

    /// As [`Self::open`], of a file that is open; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(path: &Path, file: HashedFile) -> Result<Self> {
        let bad = |found: String| BadInput::new(path.display(), "a safetensors file", found, REMEDY);
        let metadata = metadata(&file).map_err(bad)?;
        let facts = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        let data = file.len() - metadata.data_len() as u64;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, t)| {
                let (start, end) = t.data_offsets;
                let stored = Stored {
                    dtype: t.dtype,
                    shape: t.shape.clone(),
                    bytes: data + start as u64..data + end as u64,
                };
                (name, stored)
            })
            .collect();
        Ok(Self {
            at: path.display().to_string(),
            file,
            tensors,
            facts,
        })
    }

    /// A text of the header.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    /// What the writer noted, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.facts
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
    /// [`BadInput`] where it holds no floating-point numbers, or the file was changed since it was opened.
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
        let bytes = self.file.read(t.bytes.clone()).map_err(|e| {
            let expected = format!("the values of {name} as they were when the file was opened");
            BadInput::new(&self.at, expected, e.to_string(), REMEDY)
        })?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &t.shape, device)?)
    }
}

/// The header: eight bytes that say its length, and JSON.
fn metadata(file: &HashedFile) -> Result<Metadata, String> {
    let read = |part| file.read(part).map_err(|e| e.to_string());
    let mut length = [0; 8];
    length.copy_from_slice(&read(0..8)?);
    let length = u64::from_le_bytes(length);
    let data = length
        .checked_add(8)
        .filter(|d| *d <= file.len() && length <= limits::SAFETENSORS_HEADER);
    let data = data.ok_or_else(|| format!("a header of {length} bytes in a file of {}", file.len()))?;
    let metadata: Metadata = serde_json::from_slice(&read(8..data)?).map_err(|e| e.to_string())?;
    match data + metadata.data_len() as u64 == file.len() {
        true => Ok(metadata),
        false => Err(format!(
            "{} bytes of data where the header describes {}",
            file.len() - data,
            metadata.data_len()
        )),
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
        let s = SafetensorsFile::open(f.path(), None).unwrap();
        assert_eq!(s.names().collect::<Vec<_>>(), ["a", "n"]);
        assert_eq!(s.shape("a"), Some(&[2][..]));
        for _ in 0..2 {
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

    /// Weights that are exchanged after they were verified, before they are opened or between two tensors.
    #[test]
    fn a_file_that_is_not_the_verified_one_is_refused() {
        let bytes = file(HEADER, &[0; 16]);
        let f = written(&bytes);
        let sha = crate::fsio::sha256_hex(&bytes);
        let s = SafetensorsFile::open(f.path(), Some(&sha)).unwrap();
        s.load("a", &Device::Cpu).unwrap();
        std::fs::write(f.path(), file(HEADER, &[1; 16])).unwrap();
        for e in [
            s.load("a", &Device::Cpu).err(),
            SafetensorsFile::open(f.path(), Some(&sha))
                .and_then(|s| s.load("a", &Device::Cpu))
                .err(),
            SafetensorsFile::open(f.path(), Some(&"0".repeat(64))).err(),
        ] {
            let e = e.unwrap();
            assert!(e.downcast_ref::<BadInput>().is_some(), "{e:#}");
        }
    }

    #[test]
    fn every_truncation_and_a_longer_file_are_refused() {
        let whole = file(HEADER, &[0; 16]);
        let refused = |bytes: &[u8]| {
            let e = SafetensorsFile::open(written(bytes).path(), None).err().unwrap();
            assert!(e.downcast_ref::<BadInput>().is_some(), "{e:?}");
        };
        for n in 0..whole.len() {
            refused(&whole[..n]);
        }
        refused(&[whole.as_slice(), &[0]].concat());
        refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    }
}
