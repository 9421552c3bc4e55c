//! Nominal rates of GPUs, for times on a card that nothing was measured on.

use crate::spec::protocol::Precision;

/// A GPU's peak rates in TFLOPS, dense, from NVIDIA's data sheets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card {
    /// Parts that all stand in the name that the driver gives it.
    name_parts: &'static [&'static str],
    /// float32 without tensor cores; TF32; bfloat16 and float16 with float32 sums.
    tflops: [f64; 3],
}

/// The first whose parts fit.
const CARDS: [Card; 13] = [
    Card {
        name_parts: &["B200"],
        tflops: [75.0, 1125.0, 2250.0],
    },
    Card {
        name_parts: &["H200"],
        tflops: [67.0, 495.0, 989.0],
    },
    Card {
        name_parts: &["GH200"],
        tflops: [67.0, 495.0, 989.0],
    },
    Card {
        name_parts: &["H100", "PCIe"],
        tflops: [51.0, 378.0, 756.0],
    },
    Card {
        name_parts: &["H100"],
        tflops: [67.0, 495.0, 989.0],
    },
    Card {
        name_parts: &["A100"],
        tflops: [19.5, 156.0, 312.0],
    },
    Card {
        name_parts: &["L40S"],
        tflops: [91.6, 183.0, 362.0],
    },
    Card {
        name_parts: &["RTX", "6000", "Ada"],
        tflops: [91.1, 182.1, 364.2],
    },
    Card {
        name_parts: &["A6000"],
        tflops: [38.7, 77.4, 154.8],
    },
    Card {
        name_parts: &["A40"],
        tflops: [37.4, 74.8, 149.7],
    },
    Card {
        name_parts: &["A10"],
        tflops: [31.2, 62.5, 125.0],
    },
    Card {
        name_parts: &["4090"],
        tflops: [82.6, 82.6, 165.2],
    },
    Card {
        name_parts: &["3090"],
        tflops: [35.6, 35.6, 71.0],
    },
];

/// Parts by which a name means another card than its number.
const VARIANTS: [&str; 6] = ["Laptop", "Max", "NVL", "Ti", "D", "MIG"];

/// The cards that a plan is told for wherever it is made, by names as the driver gives them.
pub(crate) const SHOWN: [&str; 2] = ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"];

/// The part of a peak rate that training is expected to reach: float32 on plain cores, and on tensor cores, where what stands
/// between the products weighs more. Expectations, not measurements.
const REACHED: [f64; 2] = [0.7, 0.3];

impl Card {
    /// The card that a driver's name means.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        // Other chips or other clocks under the same number.
        if VARIANTS.iter().any(|v| parts.contains(v)) {
            return None;
        }
        CARDS.iter().find(|c| c.name_parts.iter().all(|w| parts.contains(w)))
    }

    /// Peak in TFLOPS and the part that is expected of it.
    fn expected(&self, p: Precision) -> (f64, f64) {
        match p {
            Precision::F32 | Precision::Authors => (self.tflops[0], REACHED[0]),
            Precision::Tf32 => (self.tflops[1], REACHED[1]),
            Precision::Bf16 | Precision::F16 => (self.tflops[2], REACHED[1]),
        }
    }

    /// Peak in TFLOPS.
    pub(crate) fn peak(&self, p: Precision) -> f64 {
        self.expected(p).0
    }

    /// Multiply-adds a second that are expected, in units of 10⁹.
    pub(crate) fn gmacs_per_s(&self, p: Precision) -> f64 {
        let (tflops, part) = self.expected(p);
        tflops * part * 1000.0 / 2.0
    }

    /// In words.
    pub(crate) fn rate(&self, p: Precision) -> String {
        let (tflops, part) = self.expected(p);
        format!("{:.0} % of {tflops} TFLOPS", 100.0 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_driver_are_found() {
        let of = |name: &str| Card::find(name).map(|c| c.tflops[2]);
        assert_eq!(of("NVIDIA H100 80GB HBM3"), Some(989.0));
        assert_eq!(of("NVIDIA H100 PCIe"), Some(756.0));
        assert_eq!(of("NVIDIA A100-SXM4-80GB"), Some(312.0));
        assert_eq!(of("NVIDIA A10"), Some(125.0));
        assert_eq!(of("NVIDIA GeForce RTX 4090"), Some(165.2));
        assert_eq!(of("NVIDIA RTX 6000 Ada Generation"), Some(364.2));
        assert_eq!(of("NVIDIA GH200 480GB"), Some(989.0));
        for other in [
            "GPU",
            "NVIDIA RTX A4000",
            "NVIDIA A10G",
            "NVIDIA A100X",
            "NVIDIA H100 NVL",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 3090 Ti",
            "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        for name in SHOWN {
            assert!(Card::find(name).is_some());
        }
    }

    /// 10²¹ FLOP, about what the paper's study takes.
    #[test]
    fn float32_on_an_h100_takes_some_250_days_and_bfloat16_some_40() {
        let days = |p| 0.5e12 / Card::find("H100").unwrap().gmacs_per_s(p) / 86_400.0;
        assert!(
            (230.0..270.0).contains(&days(Precision::F32)),
            "{}",
            days(Precision::F32)
        );
        assert!(
            (35.0..45.0).contains(&days(Precision::Bf16)),
            "{}",
            days(Precision::Bf16)
        );
    }
}
