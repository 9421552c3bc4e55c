//! Shared data that one may only read could not be locked (huggingface_hub#2797).

use crate::aptos;
use crate::place::Place;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn lists_may_lie_elsewhere() {
    let p = Place::new();
    aptos(&p);
    let mode = |m| fs::set_permissions(p.path("data"), fs::Permissions::from_mode(m)).unwrap();
    mode(0o555);
    // Beside the results, of its own accord.
    let a = p.medft(&["data", "lock", "aptos2019"]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(a.out.contains("results/lists/aptos2019.sha256"), "{}", a.out);
    assert_eq!(p.medft(&["data", "verify", "aptos2019"]).code, 0);
    let list = p.medft(&["data", "list", "--json"]);
    let sets = list.json();
    let aptos = sets
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["set"] == "aptos2019")
        .unwrap();
    assert_eq!(aptos["state"], "here, locked");
    // Where the user says.
    let own = p.path("own lists");
    let own = own.to_str().unwrap();
    let a = p.medft(&["data", "lock", "aptos2019", "--lists-dir", own]);
    assert_eq!(a.code, 0, "{}", a.all());
    assert!(p.path("own lists/aptos2019.sha256").is_file() && p.path("own lists/.medft-aptos2019.stat").exists());
    let a = p.medft(&["data", "verify", "aptos2019", "--lists-dir", own]);
    assert!(
        a.code == 0 && a.out.contains("own lists/aptos2019.sha256"),
        "{}",
        a.all()
    );
    assert_eq!(
        p.medft(&["data", "verify", "aptos2019", "--lists-dir", "elsewhere"])
            .code,
        1
    );
    assert!(
        fs::read_dir(p.path("data")).unwrap().count() == 1,
        "nothing is written beside the data"
    );
    mode(0o755);
}
