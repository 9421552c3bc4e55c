//! A driver as a test writes it down.

use super::driver::{Absent, Card, Driver};
use candle_core::Device;

/// What its driver says; its GPUs compute as the CPU does.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) version: Result<u32, Absent>,
    pub(crate) seen: bool,
    pub(crate) count: Result<usize, &'static str>,
    pub(crate) capability: (u32, u32),
    pub(crate) open: Result<(), &'static str>,
    /// The GPUs that answer nothing any more, once they were opened.
    pub(crate) lost: &'static [usize],
}

/// Two GPUs that do as they should.
pub(crate) const GOOD: Script = Script {
    version: Ok(13_000),
    seen: true,
    count: Ok(2),
    capability: (9, 0),
    open: Ok(()),
    lost: &[],
};

impl Driver for Script {
    fn version(&self) -> Result<u32, Absent> {
        self.version
    }

    fn gpu_seen(&self) -> bool {
        self.seen
    }

    fn count(&self) -> Result<usize, String> {
        self.count.map_err(str::to_owned)
    }

    fn card(&self, n: usize) -> Result<Card, String> {
        Ok(Card {
            name: format!("Scripted GPU {n}"),
            capability: self.capability,
            memory: 80 << 30,
        })
    }

    fn open(&self, _: usize) -> Result<Device, String> {
        self.open.map(|()| Device::Cpu).map_err(str::to_owned)
    }

    fn answers(&self, n: usize, _: &Device) -> Result<(), String> {
        match self.lost.contains(&n) {
            true => Err("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)".into()),
            false => Ok(()),
        }
    }
}
