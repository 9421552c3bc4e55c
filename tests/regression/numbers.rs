//! `--workers 18446744073709551615` started threads until the machine stopped. Numbers are bounded where they are read, and
//! the error says the range.

use crate::place::{Place, SHORT};
use std::fs;

#[test]
fn numbers_of_the_command_line_have_a_range() {
    let p = Place::new();
    let huge = "18446744073709551615";
    for args in [
        &["run", "demo", "--workers", huge][..],
        &["run", "demo", "--workers", "0"],
        &["run", "demo", "--workers", "-1"],
        &["run", "demo", "--checkpoint-every", huge],
        &["report", "demo", "--replicates", huge],
        &["bench", "train", "--batch", huge],
        &["bench", "train", "--steps", huge],
        &["bench", "train", "--size", huge],
        &["bench", "decode", "--channels", "2"],
        &["data", "synth", "aptos2019", "--images", huge],
    ] {
        let a = p.medft(args);
        assert_eq!(a.code, 2, "{args:?}: {}", a.all());
        assert!(
            a.err.contains("..=") || a.err.contains("possible values"),
            "{args:?}: {}",
            a.err
        );
    }
    for (variable, value) in [
        ("RAYON_NUM_THREADS", huge),
        ("RAYON_NUM_THREADS", "+100000"),
        ("RAYON_RS_NUM_CPUS", huge),
        ("MEDFT_LEASE_SECONDS", huge),
        ("MEDFT_LEASE_SECONDS", "0"),
        ("MEDFT_LEASE_SECONDS", "5m"),
    ] {
        let mut c = p.command(&["doctor"]);
        let a = crate::place::Said::by(c.env(variable, value));
        assert!(
            a.code == 2 && a.err.contains(variable),
            "{variable}={value}: {}",
            a.all()
        );
    }
}

#[test]
fn numbers_of_a_study_have_a_range() {
    let p = Place::new();
    for (key, line) in [
        ("seeds", "seeds = [18446744073709551615]"),
        ("seeds", "seeds = [-1]"),
        ("epochs", "epochs = 4294967295"),
        ("batch", "batch = 0"),
        ("batch", "batch = 4294967295"),
        ("resize", "resize = 1000000"),
    ] {
        let text: String = SHORT
            .lines()
            .map(|l| match l.split(" =").next() == Some(key) {
                true => format!("{line}\n"),
                false => format!("{l}\n"),
            })
            .collect();
        fs::write(p.path("s.toml"), text).unwrap();
        let a = p.medft(&["plan", "./s.toml"]);
        assert_eq!(a.code, 2, "{line}: {}", a.all());
        assert!(a.err.contains(key), "{line}: {}", a.err);
    }
}

/// What the machine has and what a container may use are told apart.
#[test]
fn doctor_shows_the_machine_and_the_containers_limits() {
    let p = Place::new();
    let a = p.medft(&["doctor"]);
    assert_eq!(a.code, 0, "{}", a.all());
    for part in ["processors", "the machine has", "memory"] {
        assert!(a.out.contains(part), "{}", a.out);
    }
}
