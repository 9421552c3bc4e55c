//! `medft doctor`: what medft finds on this machine.

use crate::cli::exit::OK;
use crate::results::crate_versions;
use crate::runner::Context;
use crate::{outln, print, text};
use anyhow::Result;
use medft_nn::isa::Isa;

pub(super) fn run(c: &Context) -> Result<u8> {
    let device = match c.global.device.open() {
        Ok(all) => all.iter().map(crate::device::name).collect::<Vec<_>>().join(", "),
        Err(e) => e.to_string(),
    };
    let vector = match medft_nn::isa::chosen()? {
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Generic => "baseline (slow)",
    };
    let here = |p: &std::path::Path| format!("{} ({})", p.display(), if p.is_dir() { "there" } else { "not there" });
    let rows: Vec<(&str, String)> = vec![
        (
            "medft",
            format!(
                "{} at {}",
                env!("CARGO_PKG_VERSION"),
                crate::build_info::BuildInfo::get().commit_or_unknown()
            ),
        ),
        ("device", device),
        (
            "CUDA in this binary",
            if cfg!(feature = "cuda") { "yes" } else { "no" }.to_owned(),
        ),
        ("vector instructions", vector.to_owned()),
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
    if c.global.json {
        let map: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
        print::json(&map)?;
    } else {
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
        outln!("{}", text::table(&["what", "found"], &rows))?;
    }
    Ok(OK)
}
