//! The losses. PROTOCOL 6.5.

use crate::data::{Label, Task};
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
    /// Where a label is of the other kind, out of range or of the wrong length.
    pub fn new(task: Task, labels: &[Label], device: &Device) -> Result<Self> {
        match task {
            Task::MultiClass(n) => {
                let mut v = Vec::with_capacity(labels.len());
                for l in labels {
                    match l {
                        Label::Class(c) if (*c as usize) < n => v.push(*c),
                        l => bail!("a class below {n} was expected, not {l:?}"),
                    }
                }
                Ok(Self::Classes(Tensor::from_vec(v, labels.len(), device)?))
            }
            Task::MultiLabel(n) => {
                let mut v = Vec::with_capacity(labels.len() * n);
                for l in labels {
                    match l {
                        Label::Labels(b) if b.len() == n => v.extend(b.iter().map(|&x| f32::from(x))),
                        l => bail!("{n} labels were expected, not {l:?}"),
                    }
                }
                Ok(Self::Labels(Tensor::from_vec(v, (labels.len(), n), device)?))
            }
        }
    }

    /// Mean cross-entropy, or mean binary cross-entropy with logits over batch × labels; logits (B, outputs) → scalar.
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

    /// By hand: CE = ln(e^1 + e^2 + e^3) − 3 = 0.40760596; BCE of (0.5 | 1), (−2 | 0) = (0.47407698 + 0.12692801) / 2.
    #[test]
    fn losses_by_hand() {
        let x = Var::new(&[[1f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let t = Target::new(Task::MultiClass(3), &[Label::Class(2)], &Device::Cpu).unwrap();
        let l = t.loss(&x).unwrap();
        assert!((l.to_scalar::<f32>().unwrap() - 0.407_605_96).abs() < 1e-6);
        let g = l.backward().unwrap();
        let g: Vec<f32> = g.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (a, b) in g.iter().zip([0.090_030_57, 0.244_728_48, -0.334_759_05]) {
            assert!((a - b).abs() < 1e-6, "{g:?}");
        }
        let x = Var::new(&[[0.5f32, -2.0]], &Device::Cpu).unwrap();
        let t = Target::new(Task::MultiLabel(2), &[Label::Labels(vec![1, 0])], &Device::Cpu).unwrap();
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
        assert!(Target::new(Task::MultiClass(2), &[Label::Class(2)], &Device::Cpu).is_err());
        assert!(Target::new(Task::MultiLabel(3), &[Label::Labels(vec![0])], &Device::Cpu).is_err());
    }
}
