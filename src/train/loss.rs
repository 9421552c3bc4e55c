//! The losses. PROTOCOL 6.5.

use crate::data::{Labels, Task};
use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use medft_nn::loss;

/// Truth of a batch, on the device.
#[derive(Debug, Clone)]
pub enum Target {
    /// Class indices (B).
    Classes(Tensor),
    /// 0/1 floats (B, L).
    Labels(Tensor),
}

impl Target {
    /// # Errors
    /// Where labels are of the other task, out of range or of the wrong length.
    pub fn new(task: Task, labels: &Labels, device: &Device) -> Result<Self> {
        match (task, labels) {
            (Task::MultiClass(n), Labels::Classes(classes)) => {
                if let Some(c) = classes.iter().find(|&&c| c as usize >= n) {
                    bail!("a class below {n} was expected, not {c}");
                }
                Ok(Self::Classes(Tensor::from_slice(classes, classes.len(), device)?))
            }
            (Task::MultiLabel(n), Labels::MultiHot { labels: width, bits }) if *width == n => {
                let bits: Vec<f32> = bits.iter().map(|&x| f32::from(x)).collect();
                Ok(Self::Labels(Tensor::from_vec(bits, (labels.len(), n), device)?))
            }
            _ => bail!("labels of {task:?} were expected"),
        }
    }

    /// Mean cross-entropy, or mean binary cross-entropy with logits over batch × labels; logits (B, outputs) → scalar.
    ///
    /// # Errors
    /// Where the logits do not fit the truth.
    pub fn loss(&self, logits: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Classes(y) => loss::cross_entropy(logits, y),
            Self::Labels(y) => loss::bce_with_logits(logits, y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn multi_hot(labels: usize, bits: &[u8]) -> Labels {
        Labels::MultiHot {
            labels,
            bits: bits.to_vec(),
        }
    }

    /// By hand: CE = ln(e^1 + e^2 + e^3) − 3 = 0.40760596; BCE of (0.5 | 1), (−2 | 0) = (0.47407698 + 0.12692801) / 2.
    #[test]
    fn losses_by_hand() {
        let x = Var::new(&[[1f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let t = Target::new(Task::MultiClass(3), &Labels::Classes(vec![2]), &Device::Cpu).unwrap();
        let l = t.loss(&x).unwrap();
        assert!((l.to_scalar::<f32>().unwrap() - 0.407_605_96).abs() < 1e-6);
        let g = l.backward().unwrap();
        let g: Vec<f32> = g.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (a, b) in g.iter().zip([0.090_030_57, 0.244_728_48, -0.334_759_05]) {
            assert!((a - b).abs() < 1e-6, "{g:?}");
        }
        let x = Var::new(&[[0.5f32, -2.0]], &Device::Cpu).unwrap();
        let t = Target::new(Task::MultiLabel(2), &multi_hot(2, &[1, 0]), &Device::Cpu).unwrap();
        let l = t.loss(&x).unwrap();
        assert!((l.to_scalar::<f32>().unwrap() - 0.300_502_5).abs() < 1e-6);
        let g = l.backward().unwrap();
        let g: Vec<f32> = g.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (a, b) in g.iter().zip([-0.188_770_33, 0.059_601_46]) {
            assert!((a - b).abs() < 1e-6, "{g:?}");
        }
    }

    #[test]
    fn labels_of_the_wrong_kind_are_refused() {
        assert!(Target::new(Task::MultiClass(2), &Labels::Classes(vec![2]), &Device::Cpu).is_err());
        assert!(Target::new(Task::MultiLabel(3), &multi_hot(1, &[0]), &Device::Cpu).is_err());
        assert!(Target::new(Task::MultiLabel(1), &Labels::Classes(vec![0]), &Device::Cpu).is_err());
    }
}
