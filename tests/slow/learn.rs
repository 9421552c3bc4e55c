//! The demo's models learn: a backbone of each family, unfrozen, is above chance on every phantom, with a 95 % interval over five
//! seeds. docs/USING.md has the table of all fourteen.

use crate::place::Place;
use medft::eval::t_quantile;
use medft::results::Store;
use std::collections::BTreeMap;
use std::fs;

#[test]
fn a_backbone_of_every_family_beats_chance_on_every_phantom() {
    // Threads change no byte; one a process shares two cores better than two.
    let p = Place::new().set("RAYON_NUM_THREADS", "1");
    let demo = include_str!("../../experiments/demo.toml");
    let list = |key: &str, value: &str, text: &str| {
        let from = text.find(&format!("\n{key} = [")).unwrap() + 1;
        let to = from + text[from..].find(']').unwrap() + 1;
        format!("{}{key} = {value}{}", &text[..from], &text[to..])
    };
    let mut text = list("seeds", "[0, 1, 2, 3, 4]", demo);
    text = list("freeze", "[\"unfrozen\"]", &text);
    text = list("heads", "[\"linear\"]", &text);
    let families = ["aimv2-l", "dinov2-b", "sam2-b", "mae-b", "vmamba-s", "coca-b", "clip-b"];
    text = list("backbones", &format!("{families:?}"), &text);
    fs::write(p.path("learn.toml"), text).unwrap();
    let sets = ["ddsm", "aptos2019", "isic2019", "chexpert"];
    std::thread::scope(|s| {
        for set in sets {
            let p = &p;
            s.spawn(move || {
                let only = format!("dataset={set}");
                let args = [
                    "run",
                    "./learn.toml",
                    "--device",
                    "cpu",
                    "--workers",
                    "1",
                    "--only",
                    &only,
                    "--results-dir",
                    set,
                ];
                let said = p.medft(&args);
                assert_eq!(said.code, 0, "{}", said.err);
            });
        }
    });
    let mut cells: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for r in sets
        .iter()
        .flat_map(|set| Store::new(&p.path(set), "learn").all().unwrap().done)
    {
        let run = &r.spec.run;
        cells
            .entry((run.dataset.clone(), run.backbone.clone()))
            .or_default()
            .push(r.metrics.value);
    }
    assert_eq!(cells.len(), 4 * families.len());
    for ((set, backbone), values) in cells {
        let chance = match set.as_str() {
            "ddsm" | "chexpert" => 0.5,
            "isic2019" => 0.125,
            _ => 0.0,
        };
        let n = values.len() as f64;
        assert_eq!(n, 5.0);
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let half = t_quantile(0.975, n - 1.0).unwrap() * sd / n.sqrt();
        println!(
            "{set} {backbone}: {mean:.3} ({:.3} to {:.3}), chance {chance}",
            mean - half,
            mean + half
        );
        assert!(mean - half > chance, "{set} {backbone}: {values:?}");
    }
}
