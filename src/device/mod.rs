//! Where to compute: the values of `--device`, and the vector instructions of the CPU.

pub mod driver;
mod fault;
#[cfg(test)]
pub(crate) mod scripted;

pub use fault::{is_late, is_out_of_memory};
pub use medft_nn::device::{name, peak_memory};

use crate::error::BadInput;
use crate::machine;
use anyhow::Result;
use candle_core::Device;
use driver::{Absent, Card, Driver, LEAST_CAPABILITY, LEAST_CUDA, Nvidia};
use fault::Fault;
use medft_nn::isa::{self, Isa};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// What the CPU is called in records.
pub const CPU: &str = "cpu";

/// Devices as typed: `auto`, `cpu`, `cuda`, `cuda:1` or `cuda:0,1,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The first GPU where there is one, else the CPU.
    Auto,
    Cpu,
    /// GPUs by number, each named once; several runs go side by side, each on its own GPU.
    Cuda(Vec<usize>),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not auto, cpu, cuda:N or cuda:N,M,… with each GPU named once");
        let numbers = match s {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => "0",
            s => s.strip_prefix("cuda:").ok_or_else(wrong)?,
        };
        let numbers: Vec<usize> = numbers
            .split(',')
            .map(|n| n.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        if numbers.iter().collect::<BTreeSet<_>>().len() != numbers.len() {
            return Err(wrong());
        }
        Ok(Self::Cuda(numbers))
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => {
                let n: Vec<String> = n.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", n.join(","))
            }
        }
    }
}

/// A device that was opened.
#[derive(Clone)]
pub struct Opened {
    pub device: Device,
    /// `cpu`, or the GPU's model.
    pub name: String,
    /// Bytes of a GPU; `None` for the CPU.
    pub memory: Option<u64>,
    /// Of a GPU.
    number: usize,
    driver: &'static dyn Driver,
}

impl Opened {
    /// The CUDA version of a GPU's driver; `None` for the CPU.
    pub fn driver_version(&self) -> Option<u32> {
        self.driver.version().ok().filter(|_| self.memory.is_some())
    }

    /// Whether it still computes.
    ///
    /// # Errors
    /// What it says where it does not.
    pub fn answers(&self) -> Result<(), String> {
        self.driver.answers(self.number, &self.device)
    }
}

/// The devices that a request means, opened, and why these.
#[derive(Clone)]
pub struct Chosen {
    /// At least one.
    pub all: Vec<Opened>,
    /// A clause, where the request left it open.
    pub why: Option<String>,
}

/// What opens devices; each is opened once a process.
pub struct Devices {
    driver: &'static dyn Driver,
    chosen: OnceLock<Chosen>,
}

impl Default for Devices {
    fn default() -> Self {
        Self::of(&Nvidia)
    }
}

impl Devices {
    pub fn of(driver: &'static dyn Driver) -> Self {
        Self {
            driver,
            chosen: OnceLock::new(),
        }
    }

    /// The devices that are meant. `auto` is the CPU only where there is no GPU to be had: one that the driver reports and that
    /// cannot be used is an error.
    ///
    /// # Errors
    /// [`BadInput`] where a GPU was asked for, or is there, and cannot be used.
    pub fn open(&self, request: &DeviceRequest) -> Result<&Chosen> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(chosen);
        }
        let chosen = match request {
            DeviceRequest::Cpu => self.cpu(None),
            DeviceRequest::Auto => match self.none()? {
                Some(why) => self.cpu(Some(why)),
                None => Chosen {
                    all: vec![self.gpu(0)?],
                    why: Some("the first GPU that the driver reports".into()),
                },
            },
            DeviceRequest::Cuda(numbers) => Chosen {
                all: numbers.iter().map(|&n| self.gpu(n)).collect::<Result<_>>()?,
                why: None,
            },
        };
        Ok(self.chosen.get_or_init(|| chosen))
    }

    /// What the first device that is meant is called, without opening it; one that is not here goes by the text it was asked for with.
    pub fn name(&self, request: &DeviceRequest) -> String {
        let n = match request {
            DeviceRequest::Cpu => return CPU.to_owned(),
            DeviceRequest::Auto => match self.none() {
                Ok(Some(_)) => return CPU.to_owned(),
                _ => 0,
            },
            DeviceRequest::Cuda(numbers) => numbers[0],
        };
        self.card(n).map_or_else(|_| request.to_string(), |c| c.name)
    }

    /// Bytes that the first device that is meant has for tensors, without opening it; `None` where that is not known.
    pub fn memory(&self, request: &DeviceRequest) -> Option<u64> {
        let name = self.name(request);
        if name == CPU {
            let all = machine::memory_of_machine("/".as_ref()).0;
            return all.into_iter().chain(machine::limits().memory).min();
        }
        let n = if let DeviceRequest::Cuda(numbers) = request {
            numbers[0]
        } else {
            0
        };
        self.card(n).ok().map(|c| c.memory)
    }

    fn cpu(&self, why: Option<String>) -> Chosen {
        let cpu = Opened {
            device: Device::Cpu,
            name: CPU.to_owned(),
            memory: None,
            number: 0,
            driver: self.driver,
        };
        Chosen { all: vec![cpu], why }
    }

    /// Why there is no GPU to be had; `None` where there is one.
    fn none(&self) -> Result<Option<String>, BadInput> {
        let seen = self.driver.gpu_seen();
        match self.driver.version() {
            // Such a binary can use no GPU whatever is done about the driver; tests and demos are built so on purpose.
            Err(Absent::NotBuilt) if seen => Ok(Some(
                "this machine has an NVIDIA GPU, but this binary has no CUDA in it: `make cuda` builds one that has"
                    .into(),
            )),
            Err(Absent::NotBuilt) => Ok(Some("this binary has no CUDA in it".into())),
            Err(Absent::NoLibrary) if seen => Err(Fault::NoDriver.of_gpu(0)),
            Err(Absent::NoLibrary) => Ok(Some("there is no NVIDIA driver".into())),
            Ok(version) => match self.driver.count() {
                Ok(0) => Ok(Some("the NVIDIA driver reports no GPU".into())),
                Ok(_) => Ok(None),
                Err(_) if version < LEAST_CUDA => Err(Fault::OldDriver(version).of_gpu(0)),
                Err(message) => Err(Fault::Driver(message).of_gpu(0)),
            },
        }
    }

    /// GPU `n` where its driver and its capability allow it.
    fn card(&self, n: usize) -> Result<Card, Fault> {
        match self.driver.version() {
            Err(Absent::NotBuilt) => return Err(Fault::NotBuilt),
            Err(Absent::NoLibrary) => return Err(Fault::NoDriver),
            Ok(v) if v < LEAST_CUDA => return Err(Fault::OldDriver(v)),
            Ok(_) => {}
        }
        let count = self.driver.count().map_err(Fault::Driver)?;
        if n >= count {
            return Err(Fault::NoSuchGpu(count));
        }
        let card = self.driver.card(n).map_err(Fault::Driver)?;
        if card.capability < LEAST_CAPABILITY {
            return Err(Fault::OldGpu(card.name, card.capability));
        }
        Ok(card)
    }

    fn gpu(&self, n: usize) -> Result<Opened> {
        let open = || {
            let card = self.card(n)?;
            let device = self.driver.open(n).map_err(|message| Fault::of(&message))?;
            Ok(Opened {
                device,
                name: card.name,
                memory: Some(card.memory),
                number: n,
                driver: self.driver,
            })
        };
        open().map_err(|fault: Fault| fault.of_gpu(n).into())
    }
}

/// Which vector instructions this process computes with.
///
/// # Errors
/// [`BadInput`] where `MEDFT_ISA` names some that this processor lacks.
pub fn instructions() -> Result<Isa> {
    isa::chosen().map_err(|e| {
        let here: Vec<&str> = Isa::all_available().map(Isa::name).collect();
        BadInput::new(
            isa::VARIABLE,
            format!("one of {}, which this processor has", here.join(", ")),
            format!("`{}`", e.value),
            format!(
                "Set it to one of them, or unset it: {} is used then.",
                here[here.len() - 1]
            ),
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::scripted::{GOOD, Script};
    use super::*;

    #[test]
    fn requests_are_devices() {
        let request = |s: &str| s.parse::<DeviceRequest>();
        assert_eq!(request("auto"), Ok(DeviceRequest::Auto));
        assert_eq!(request("cpu"), Ok(DeviceRequest::Cpu));
        assert_eq!(request("cuda"), Ok(DeviceRequest::Cuda(vec![0])));
        assert_eq!(request("cuda:3,1"), Ok(DeviceRequest::Cuda(vec![3, 1])));
        assert_eq!(request("cuda:3,1").unwrap().to_string(), "cuda:3,1");
        for wrong in ["", "gpu", "cuda:", "cuda:0,", "cuda:0,0", "cuda:-1", "cpu,cpu"] {
            let e = request(wrong).unwrap_err();
            assert!(e.contains(&format!("`{wrong}`")), "{e}");
        }
    }

    #[test]
    fn a_missing_gpu_is_said_with_the_remedy() {
        let e = Devices::default()
            .open(&DeviceRequest::Cuda(vec![99]))
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("--device cuda:99") && e.contains("--device cpu"), "{e}");
        assert_eq!(Devices::default().open(&DeviceRequest::Cpu).unwrap().all[0].name, "cpu");
    }

    fn open(script: Script, request: &str) -> Result<(Vec<String>, Option<String>), String> {
        let devices = Devices::of(Box::leak(Box::new(script)));
        let chosen = devices.open(&request.parse().unwrap()).map_err(|e| format!("{e:#}"))?;
        Ok((chosen.all.iter().map(|d| d.name.clone()).collect(), chosen.why.clone()))
    }

    #[test]
    fn auto_is_the_cpu_only_where_no_gpu_is_reported_and_says_why() {
        let (names, why) = open(GOOD, "auto").unwrap();
        assert_eq!((names, why.is_some()), (vec!["Scripted GPU 0".to_owned()], true));
        for (script, reason) in [
            (Script { count: Ok(0), ..GOOD }, "reports no GPU"),
            (
                Script {
                    version: Err(Absent::NoLibrary),
                    seen: false,
                    ..GOOD
                },
                "no NVIDIA driver",
            ),
            (
                Script {
                    version: Err(Absent::NotBuilt),
                    seen: false,
                    ..GOOD
                },
                "no CUDA in it",
            ),
            (
                Script {
                    version: Err(Absent::NotBuilt),
                    ..GOOD
                },
                "this machine has an NVIDIA GPU",
            ),
        ] {
            let (names, why) = open(script, "auto").unwrap();
            assert!(names == ["cpu"] && why.as_ref().unwrap().contains(reason), "{why:?}");
        }
    }

    /// Whatever is wrong with a GPU that is there: `auto` and a named one end with what was found, what is needed and a remedy.
    #[test]
    fn a_gpu_that_is_there_and_cannot_be_used_is_an_error() {
        let cublas = "CublasError(CUBLAS_STATUS_NOT_INITIALIZED)";
        let busy = "DriverError(CUDA_ERROR_DEVICE_UNAVAILABLE, \"busy\")";
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        for (script, needles) in [
            (
                Script {
                    version: Ok(12_040),
                    ..GOOD
                },
                vec!["CUDA 12.4", "R580", "CUDA 13.0"],
            ),
            (
                Script {
                    version: Ok(12_040),
                    count: Err("DriverError(CUDA_ERROR_UNKNOWN)"),
                    ..GOOD
                },
                vec!["CUDA 12.4", "R580"],
            ),
            (
                Script {
                    version: Err(Absent::NoLibrary),
                    ..GOOD
                },
                vec!["libcuda", "R580"],
            ),
            (
                Script {
                    count: Err("DriverError(CUDA_ERROR_SYSTEM_NOT_READY)"),
                    ..GOOD
                },
                vec!["SYSTEM_NOT_READY", "nvidia-smi"],
            ),
            (
                Script {
                    capability: (7, 5),
                    ..GOOD
                },
                vec!["Scripted GPU 0 with 7.5", "8.0"],
            ),
            (
                Script {
                    open: Err(cublas),
                    ..GOOD
                },
                vec!["cublasLt", cublas, "LD_LIBRARY_PATH", "CUDA_LAZY_DEBUG=1"],
            ),
            (
                Script {
                    open: Err(busy),
                    ..GOOD
                },
                vec!["another process", "nvidia-smi", "cuda:N"],
            ),
            (
                Script {
                    open: Err(full),
                    ..GOOD
                },
                vec!["memory is full", "nvidia-smi"],
            ),
        ] {
            let (auto, named) = (open(script, "auto").unwrap_err(), open(script, "cuda:0").unwrap_err());
            assert_eq!(auto, named);
            for needle in needles {
                assert!(auto.contains(needle), "{needle}: {auto}");
            }
            assert!(
                auto.starts_with("--device cuda:0: expected") && auto.contains("--device cpu"),
                "{auto}"
            );
        }
        let e = open(GOOD, "cuda:0,2").unwrap_err();
        assert!(e.contains("cuda:2") && e.contains("0..=1"), "{e}");
        assert_eq!(open(GOOD, "cuda:1,0").unwrap().0, ["Scripted GPU 1", "Scripted GPU 0"]);
    }

    #[test]
    fn a_plan_names_a_gpu_without_opening_it() {
        let broken = Script {
            open: Err("DriverError(CUDA_ERROR_OUT_OF_MEMORY)"),
            ..GOOD
        };
        let devices = Devices::of(Box::leak(Box::new(broken)));
        assert_eq!(devices.name(&DeviceRequest::Auto), "Scripted GPU 0");
        assert_eq!(devices.memory(&DeviceRequest::Cuda(vec![1])), Some(80 << 30));
        assert_eq!(devices.name(&DeviceRequest::Cuda(vec![7])), "cuda:7");
    }
}
