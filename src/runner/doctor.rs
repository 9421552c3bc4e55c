//! What medft finds on this machine.

use super::{Context, selfcheck};
use crate::device::driver::LEAST_DRIVER;
use crate::device::{Chosen, DeviceRequest, Devices};
use crate::machine;
use crate::results::crate_versions;
use anyhow::Result;
use indicatif::HumanBytes;
use medft_nn::isa::Isa;

/// The processors that may be used: of the machine, and by the container's limit.
fn processors() -> String {
    let machine = machine::processors_of_machine().map_or("unknown".to_owned(), |n| n.to_string());
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match machine::limits().processors {
        Some(limit) => format!("{usable} usable; the machine has {machine}, this container or job may use {limit}"),
        None => format!("{usable} usable; the machine has {machine}, no container limits them"),
    }
}

/// The memory that may be used, likewise.
fn memory() -> String {
    let size = |b: Option<u64>| b.map_or("unknown".to_owned(), |b| HumanBytes(b).to_string());
    let (all, _) = machine::memory_of_machine("/".as_ref());
    let free = size(machine::free_memory());
    match machine::limits().memory {
        Some(limit) => format!(
            "{free} free; the machine has {}, this container or job may use {}",
            size(all),
            size(Some(limit))
        ),
        None => format!("{free} free; the machine has {}, no container limits it", size(all)),
    }
}

/// What is found: each thing with its name, and whether every device computes as it should.
///
/// # Errors
/// Where instructions are asked for that the processor lacks.
pub fn look(c: &Context) -> Result<(Vec<(&'static str, String)>, bool)> {
    let device = match c.opened() {
        Ok(Chosen { all, why }) => {
            let names: Vec<&str> = all.iter().map(|d| d.name.as_str()).collect();
            let why = why.as_ref().map_or_else(String::new, |w| format!(": {w}"));
            format!("{}{why}", names.join(", "))
        }
        Err(e) => e.to_string(),
    };
    let mut checks = Vec::new();
    let mut sound = true;
    // The processor prepares images whatever trains.
    let cpu = Devices::default();
    let cpu = &cpu.open(&DeviceRequest::Cpu)?.all;
    for d in c.opened().map_or(cpu, |chosen| &chosen.all) {
        let report = selfcheck::check(c, d, false)?;
        sound &= report.failed.is_empty();
        let rates = report.rates.as_ref().map_or_else(String::new, |r| format!("; {r}"));
        checks.push(format!("{}: {}{rates}", d.name, report.text()));
    }
    let vector = match medft_nn::isa::chosen()? {
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Generic => "baseline (slow)",
    };
    let here = |p: &std::path::Path| format!("{} ({})", p.display(), if p.is_dir() { "there" } else { "not there" });
    let rows = vec![
        (
            "medft",
            format!(
                "{} at {}",
                env!("CARGO_PKG_VERSION"),
                crate::build_info::BuildInfo::get().commit_or_unknown()
            ),
        ),
        ("device", device),
        ("self-check", checks.join(", ")),
        (
            "driver needed",
            format!("{LEAST_DRIVER} or later (CUDA 13), for GPUs alone"),
        ),
        (
            "CUDA in this binary",
            if cfg!(feature = "cuda") { "yes" } else { "no" }.to_owned(),
        ),
        ("vector instructions", vector.to_owned()),
        ("processors", processors()),
        ("memory", memory()),
        ("compute threads", rayon::current_num_threads().to_string()),
        ("loader threads", c.workers().to_string()),
        ("data", here(&c.global.data_dir)),
        ("weights", here(&c.global.weights_dir)),
        (
            "hub cache",
            crate::manifest::hub_cache(|k| std::env::var_os(k)).map_or_else(|| "none".into(), |p| here(&p)),
        ),
        ("results", here(&c.global.results_dir)),
        (
            "crates",
            crate_versions()
                .iter()
                .map(|(k, v)| format!("{k} {v}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    ];
    Ok((rows, sound))
}
