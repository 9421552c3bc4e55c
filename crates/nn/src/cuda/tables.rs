//! Tables of whole numbers that kernels read, kept on their device: what one holds follows from its name and a few sizes.

use candle_core::{Device, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// The most tables that are kept of a device: at most 10 a model, of up to 1 MB.
const MOST: usize = 128;

static TABLES: Mutex<Tables> = Mutex::new(Tables(Vec::new()));

/// The table of this name for these sizes on `device`; `make` is called where it is not there yet.
pub(crate) fn table(
    name: &'static str,
    sizes: &[usize],
    device: &Device,
    make: impl FnOnce() -> Vec<u32>,
) -> Result<Tensor> {
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    tables.get(name, sizes, device, make)
}

/// In order of their last use.
struct Tables(Vec<Table>);

struct Table {
    name: &'static str,
    sizes: Vec<usize>,
    values: Tensor,
}

impl Tables {
    fn get(
        &mut self,
        name: &'static str,
        sizes: &[usize],
        device: &Device,
        make: impl FnOnce() -> Vec<u32>,
    ) -> Result<Tensor> {
        let wanted = |t: &Table| t.name == name && t.sizes == sizes && t.values.device().same_device(device);
        if let Some(i) = self.0.iter().position(wanted) {
            self.0[i..].rotate_left(1);
        } else {
            let values = make();
            let len = values.len();
            let new = Table {
                name,
                sizes: sizes.to_vec(),
                values: Tensor::from_vec(values, len, device)?,
            };
            // What one device needs makes room among its own.
            let own = |t: &Table| t.values.device().same_device(device);
            if self.0.iter().filter(|t| own(t)).count() == MOST
                && let Some(oldest) = self.0.iter().position(own)
            {
                self.0.remove(oldest);
            }
            self.0.push(new);
        }
        Ok(self.0[self.0.len() - 1].values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_once_until_it_is_the_longest_unused() {
        let mut t = Tables(Vec::new());
        let get = |t: &mut Tables, name, sizes: &[usize]| {
            let mut made = false;
            let values = t.get(name, sizes, &Device::Cpu, || {
                made = true;
                vec![sizes[0] as u32, u32::from(name == "b"), 7]
            });
            (values.unwrap().to_vec1::<u32>().unwrap(), made)
        };
        assert_eq!(get(&mut t, "a", &[1, 2]), (vec![1, 0, 7], true));
        assert_eq!(get(&mut t, "a", &[1, 2]), (vec![1, 0, 7], false));
        assert_eq!(get(&mut t, "b", &[1, 2]), (vec![1, 1, 7], true));
        assert_eq!(get(&mut t, "a", &[2, 1]), (vec![2, 0, 7], true));
        // One that is used again and again stays; the others of the start are made anew.
        for i in 10..10 + MOST {
            assert!(get(&mut t, "a", &[i]).1);
            assert!(!get(&mut t, "a", &[1, 2]).1);
            assert!(t.0.len() <= MOST);
        }
        assert!(get(&mut t, "b", &[1, 2]).1);
    }
}
