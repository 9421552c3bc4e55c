//! `claims.toml` as it is read: the built-in ones, and every way to write one wrongly.

use medft::study::{ClaimSource, ClaimTest, Claims, Freeze, HeadKind};

#[test]
fn the_built_in_claims_are_understood() {
    let c = Claims::parse(
        "claims.toml",
        include_str!("../../experiments/papers/paper2025/claims.toml"),
    )
    .unwrap();
    assert_eq!(c.claims.len(), 9);
    let ClaimTest::Trend { dates } = &c.claims[8].test else {
        panic!("{:?}", c.claims[8])
    };
    assert_eq!(dates.iter().find(|d| d.0 == "AIMv2").unwrap().1, 2024.0 * 12.0 + 11.0);
    let ClaimTest::Contrast { plus, less, .. } = &c.claims[5].test else {
        panic!("{:?}", c.claims[5])
    };
    // The abstract names neither size, nor attention, nor fine-tuning.
    let of = |source| c.claims.iter().filter(|c| c.source == source).count();
    assert_eq!((of(ClaimSource::Abstract), of(ClaimSource::ThirdPartySummary)), (3, 6));
    assert!(
        c.claims
            .iter()
            .all(|c| c.smallest > 0.0 && !c.smallest_reason.is_empty() && !c.sentence.is_empty())
    );
    assert!(less.is_none() && plus.holds(Freeze::Frozen, HeadKind::Mha));
    assert!(!plus.holds(Freeze::Frozen, HeadKind::Linear) && !plus.holds(Freeze::Unfrozen, HeadKind::Mha));
}

#[test]
fn what_is_not_understood_is_named_with_its_line() {
    let good = include_str!("../../experiments/papers/paper2025/claims.toml");
    for (old, new, said) in [
        ("\"group\"", "\"groop\"", ["claims.toml:", "group"]),
        (
            "id = \"families-top\"",
            "id = \"families-mean\"",
            ["claims.toml:", "every id once"],
        ),
        ("\"2024-11\"", "\"2024-13\"", ["claims.toml:", "YYYY-MM"]),
        ("head = \"mha\" }", "head = \"mlp\" }", ["claims.toml:", "mha"]),
        (
            "[\"aimv2-l\", \"aimv2-h\"]",
            "[\"aimv2-l\"]",
            ["claims.toml:", "two backbones"],
        ),
        (
            "source = \"abstract\"\nsentence = \"Progress",
            "sauce = 1\nsentence = \"Progress",
            ["claims.toml:", "source"],
        ),
    ] {
        assert!(good.contains(old), "{old}");
        let e = Claims::parse("claims.toml", &good.replacen(old, new, 1))
            .unwrap_err()
            .to_string();
        assert!(said.iter().all(|w| e.contains(w)), "{e}");
    }
}

/// A paper is a folder: the program knows none by its key.
#[test]
fn no_source_names_a_paper() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect()
    };
    let keys: Vec<String> = names(&root.join("experiments/papers"))
        .into_iter()
        .filter(|p| p.is_dir())
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(keys.len() > 1);
    let (mut left, mut read) = (vec![root.join("src")], 0);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(names(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        read += 1;
        for key in &keys {
            assert!(
                !text.contains(&format!("\"{key}")) && !text.contains(&format!("papers/{key}")),
                "{}: {key}",
                path.display()
            );
        }
    }
    assert!(read > 100, "{read}");
}
