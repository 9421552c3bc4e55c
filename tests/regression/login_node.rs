//! `medft submit` where data may not be read: on the login node of a cluster. What was hashed before counts, what was not is
//! refused with the command for a job; no file of a data set is opened.

use crate::place::{Place, Said};
use crate::{aptos, has, images, skipped};
use std::fs;
use std::time::Duration;

const ONLY: &str = "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear";

fn args() -> Vec<&'static str> {
    vec!["submit", "paper", "--cluster", "c.toml", "--dry-run", "--only", ONLY]
}

fn submit(p: &Place) -> Said {
    fs::write(
        p.path("c.toml"),
        "sbatch = [\"--account=abc\"]\nprepare = [\"--partition=cpu\"]\n",
    )
    .unwrap();
    p.medft(&args())
}

#[test]
fn data_are_not_read_and_what_was_not_hashed_is_refused_with_the_command_for_a_job() {
    let p = Place::new();
    let set = aptos(&p);
    let a = submit(&p);
    assert_eq!(a.code, 1, "{}", a.all());
    let command = |verb: &str| format!("sbatch --partition=cpu --wrap '{}", verb);
    assert!(
        a.out.contains("nothing to submit") && a.out.contains(&command("")),
        "{}",
        a.all()
    );
    assert!(a.out.contains("medft data lock aptos2019 --data-dir"), "{}", a.all());
    // A file that was touched just before it is hashed is hashed again next time.
    std::thread::sleep(Duration::from_millis(2100));
    let locked = p.medft(&["data", "lock", "aptos2019", "--accept-labels"]);
    assert_eq!(locked.code, 0, "{}", locked.all());
    let a = submit(&p);
    assert!(
        !a.out.contains("APTOS") && a.out.contains("weights"),
        "the weights alone are missing: {}",
        a.all()
    );
    // A changed image.
    fs::write(&images(&set)[3], b"another").unwrap();
    let a = submit(&p);
    assert!(
        a.out.contains("1 that were never hashed, or have changed since"),
        "{}",
        a.all()
    );
    assert!(
        a.out.contains("medft data verify aptos2019 --since-lock --data-dir"),
        "{}",
        a.all()
    );
    if !has("strace") {
        return skipped("there is no strace to see what is opened");
    }
    let exe = assert_cmd::cargo::cargo_bin("medft");
    let mut traced = vec!["-f", "-e", "trace=openat,open", "-o", "trace", exe.to_str().unwrap()];
    traced.extend(args());
    let out = std::process::Command::new("strace")
        .args(traced)
        .current_dir(p.path("."))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let trace = fs::read_to_string(p.path("trace")).unwrap();
    let opened: Vec<&str> = trace
        .lines()
        .filter(|l| l.contains("APTOS2019/") && !l.contains("O_DIRECTORY"))
        .collect();
    assert!(trace.contains("c.toml") && opened.is_empty(), "{opened:#?}");
}
