//! tables.tex stopped at siunitx 2 (older distributions, publishers' systems): three keys of version 3. Version 3 brings version 2 along,
//! by which this is tried.

use crate::place::Place;
use crate::{has, skipped};
use std::fs;
use std::process::Command;

#[test]
fn tables_compile_with_siunitx_2_and_3() {
    let found = |file: &str| {
        Command::new("kpsewhich")
            .arg(file)
            .output()
            .is_ok_and(|o| !o.stdout.is_empty())
    };
    if !has("pdflatex")
        || !["siunitx.sty", "siunitx-v2.sty", "threeparttable.sty"]
            .into_iter()
            .all(found)
    {
        return skipped("there is no pdflatex with siunitx 2 and 3 and threeparttable");
    }
    let p = Place::new();
    let s = p.study("s", |t| t.replace("epochs = 2", "epochs = 1"));
    let a = p.medft(&["run", &s, "--only", "freeze=frozen"]);
    assert_eq!(a.code, 0, "{}", a.all());
    let a = p.medft(&["report", &s]);
    assert!(p.path("reports/s/tables.tex").is_file(), "{}", a.all());
    let tex = fs::read_to_string(p.path("reports/s/tables.tex")).unwrap();
    assert!(tex.contains(r"\usepackage{siunitx}"), "{tex}");
    for (version, file) in [("", "siunitx.sty"), ("[=v2]", "siunitx-v2.sty")] {
        let name = format!("with{}.tex", file.len());
        let wanted = format!(r"\usepackage{{siunitx}}{version}");
        fs::write(
            p.path("reports/s").join(&name),
            tex.replace(r"\usepackage{siunitx}", &wanted),
        )
        .unwrap();
        let out = Command::new("pdflatex")
            .args(["-interaction=nonstopmode", "-halt-on-error", &name])
            .current_dir(p.path("reports/s"))
            .output()
            .unwrap();
        // Lines are broken at 79 characters, also within names.
        let said = String::from_utf8_lossy(&out.stdout).replace('\n', "");
        assert!(out.status.success() && said.contains(file), "{said}");
        assert!(said.to_lowercase().contains("bx"), "the best score is bold: {said}");
    }
}
