//! What a person sees: in real terminals (tmux) of 40, 80 and 200 columns, in a pipe, in a log, without colours; and what a reader
//! of `--help`, of a man page, and a shell that completes gets.
//!
//! tmux and bash are tools of the machine: where one is absent the test says "skipped" and why.

use crate::place::Place;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn medft() -> String {
    assert_cmd::cargo::cargo_bin!("medft").to_str().unwrap().to_owned()
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        crate::skip::skipped(&format!("no {tool} here"));
    }
    found.is_ok()
}

/// A terminal of so many columns, with one command in it.
struct Terminal<'a> {
    place: &'a Place,
    socket: String,
}

impl<'a> Terminal<'a> {
    fn open(place: &'a Place, columns: usize, command: &str) -> Self {
        let t = Self {
            place,
            socket: place.path(&format!("tmux{columns}")).to_str().unwrap().to_owned(),
        };
        let line = format!("trap : INT; {command}; echo \"END $?\"; exec cat");
        t.tmux(&[
            "set",
            "-g",
            "history-limit",
            "5000",
            ";",
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            "50",
            &line,
        ]);
        t
    }

    fn tmux(&self, args: &[&str]) -> String {
        let out = Command::new("tmux")
            .args(["-u", "-f", "/dev/null", "-S", &self.socket])
            .args(args)
            .current_dir(self.place.path(""))
            .env("LANG", "C.UTF-8")
            .env("SHELL", "/bin/sh")
            .env_remove("TMUX")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// The lines on the screen and above it, as they are broken there.
    fn screen(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p", "-S", "-"]);
        text.trim_end().lines().map(|l| l.trim_end().to_owned()).collect()
    }

    /// The same with the lines as they were written.
    fn lines(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]);
        text.trim_end().lines().map(|l| l.trim_end().to_owned()).collect()
    }

    /// Looks at the screen until the command has ended; `look` is asked about every sight of it.
    fn watch(&self, mut look: impl FnMut(&[String])) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if screen.iter().any(|l| l.starts_with("END ")) {
                return self.lines();
            }
            look(&screen);
            assert!(begun.elapsed() < Duration::from_secs(400), "{screen:#?}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Lines in one, blanks alike: what is longer than the terminal is broken between words.
fn flat(lines: &[String]) -> String {
    lines
        .iter()
        .flat_map(|l| l.split_whitespace())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a command said last, before the shell said that it had ended.
fn last(lines: &[String], begin: &str) -> String {
    let all = flat(lines);
    let at = all.rfind(begin).unwrap_or_else(|| panic!("no `{begin}`: {lines:#?}"));
    all[at..].to_owned()
}

/// `done`, the id of the run, and what it is.
fn is_result(line: &str) -> bool {
    line.starts_with("done ") && line.split(' ').nth(1).is_some_and(|id| id.len() == 16)
}

/// The bar of all runs: whole, or it is torn.
fn is_bar(line: &str) -> bool {
    line.starts_with("runs ") && line.contains("/4")
}

fn torn(line: &str) -> bool {
    (line.contains('\u{2588}') || line.contains('\u{2591}'))
        && !(is_bar(line) || line.contains(" images ") || line.contains("/s"))
}

/// A study whose phantoms are there, and whose epochs take long enough to be seen.
fn study(p: &Place) -> String {
    assert_eq!(p.medft(&["data", "synth", "aptos2019"]).code, 0);
    p.study("short", |t| t.replace("epochs = 2", "epochs = 6"))
}

#[test]
fn on_a_terminal_results_stand_above_one_whole_bar() {
    if !has("tmux") {
        return;
    }
    for columns in [40, 80, 200] {
        let p = Place::new();
        let s = study(&p);
        let t = Terminal::open(&p, columns, &format!("{} run {s}", medft()));
        let (mut bars, mut steps) = (0, 0);
        let end = t.watch(|screen| {
            let here = screen.iter().filter(|l| is_bar(l)).count();
            bars += here;
            steps += screen
                .iter()
                .filter(|l| l.contains("epoch ") && l.starts_with("     "))
                .count();
            assert!(here <= 1, "{columns}: two bars of the same work: {screen:#?}");
            assert!(!screen.iter().any(|l| torn(l)), "{columns}: {screen:#?}");
            assert!(screen.iter().all(|l| l.chars().count() <= columns));
        });
        // A screen is looked at some thirty times a second; the narrowest has the bar too.
        assert!(bars > 0, "{columns}: no bar was ever seen: {end:#?}");
        assert!(
            columns == 40 || steps > 0,
            "{columns}: what is being done was never seen: {end:#?}"
        );
        let results = end.iter().filter(|l| is_result(l)).count();
        assert_eq!(results, 4, "{columns}: a result a run: {end:#?}");
        assert!(
            !end.iter().any(|l| is_bar(l) || torn(l)),
            "{columns}: a bar was left: {end:#?}"
        );
        let all = flat(&end);
        assert!(
            all.starts_with("medft ") && all.contains("4 cells × 1 seed = 4 runs"),
            "{end:#?}"
        );
        assert!(
            all.contains("done 4 runs in 0:") && all.contains(", 0 failed"),
            "{end:#?}"
        );
        let last = last(&end, "next ");
        assert!(
            last.starts_with("next medft report ./short.toml after 0:") && last.ends_with(" END 0"),
            "{end:#?}"
        );
        assert_eq!(last.split(' ').count(), 8, "nothing stands after it: {end:#?}");
        // Nothing is broken within a word: every line begins a new one, and only a word that is longer goes over the edge.
        let words: Vec<&str> = all.split(' ').collect();
        for word in ["linear", "unfrozen", "quadratic_kappa", "seeds)", "(faithful):"] {
            assert!(words.contains(&word), "{columns}: {word} is broken: {end:#?}");
        }
    }
}

#[test]
fn a_reproduction_ends_with_its_time_and_what_to_open() {
    if !has("tmux") {
        return;
    }
    let p = Place::new();
    let s = study(&p);
    let t = Terminal::open(&p, 80, &format!("{} reproduce {s}", medft()));
    let end = t.watch(|_| ());
    for (i, begin) in [
        "medft ",
        "device   cpu: ",
        "data     1 phantom set verified   0:0",
        "weights  none needed",
        "runs     4: 4 fresh",
    ]
    .iter()
    .enumerate()
    {
        assert!(end[i].starts_with(begin), "{end:#?}");
    }
    assert!(
        end.iter().any(|l| l.starts_with("best     APTOS2019: DINOv2-B ")),
        "{end:#?}"
    );
    let last = last(&end, "open ");
    assert!(
        last.starts_with("open reports/short/index.html after 0:") && last.ends_with(" END 0"),
        "{end:#?}"
    );
}

#[test]
fn interrupted_on_a_terminal_it_says_how_to_go_on_and_nothing_more() {
    if !has("tmux") {
        return;
    }
    let p = Place::new();
    assert_eq!(p.medft(&["data", "synth", "aptos2019"]).code, 0);
    let s = p.study("short", |t| t.replace("epochs = 2", "epochs = 400"));
    let t = Terminal::open(&p, 80, &format!("{} reproduce {s}", medft()));
    let begun = Instant::now();
    while !t.screen().iter().any(|l| l.contains("epoch ")) {
        assert!(begun.elapsed() < Duration::from_secs(200), "{:#?}", t.screen());
        std::thread::sleep(Duration::from_millis(30));
    }
    t.tmux(&["send-keys", "C-c"]);
    let end = t.watch(|_| ());
    assert_eq!(end[end.len() - 1], "END 130", "{end:#?}");
    let last = last(&end, "stopped at");
    assert!(
        last.starts_with("stopped at 0 of 4; go on with `") && last.ends_with("reproduce ./short.toml` END 130"),
        "{end:#?}"
    );
    assert!(
        !end.iter().any(|l| is_bar(l)) && !p.path("reports").exists(),
        "{end:#?}"
    );
}

/// In a pipe and in a file there is no bar, no return of the carriage, no escape: a line a run, and the end.
#[test]
fn a_log_is_lines() {
    let p = Place::new().set("NO_COLOR", "1");
    let s = study(&p);
    let said = p.medft(&["run", &s]);
    assert_eq!(said.code, 0, "{}", said.err);
    for text in [&said.out, &said.err] {
        assert!(!text.contains(['\u{1b}', '\r', '\u{2588}']), "{text}");
    }
    assert_eq!(
        said.err.lines().filter(|l| l.starts_with("done ")).count(),
        4,
        "{}",
        said.err
    );
    assert!(
        said.out
            .lines()
            .last()
            .unwrap()
            .starts_with("next     medft report ./short.toml   after 0:"),
        "{}",
        said.out
    );
    // Every verb that does something ends with what was done and how long it took.
    let said = p.medft(&["data", "verify", "aptos2019", "--phantom"]);
    assert!(
        said.err
            .trim_end()
            .lines()
            .last()
            .unwrap()
            .starts_with("done     data verify in 0:0"),
        "{}",
        said.err
    );
    let said = p.medft(&["verify-results"]);
    assert!(
        said.err
            .trim_end()
            .lines()
            .last()
            .unwrap()
            .starts_with("done     verify-results in 0:0"),
        "{}",
        said.err
    );
}

/// Colours are for terminals, and for those who want them.
#[test]
fn help_has_colours_on_a_terminal_and_none_with_no_color() {
    if !has("script") {
        return;
    }
    let shown = |before: &str| {
        let line = format!("stty cols 80; {before} {} run --help", medft());
        let out = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(
        shown("").contains("\u{1b}["),
        "a terminal shows no colours here: nothing is tested"
    );
    assert!(!shown("NO_COLOR=1").contains("\u{1b}["));
}

/// Nothing is silent for longer than a minute where nobody watches.
#[test]
fn a_log_has_a_line_a_minute() {
    let p = Place::new();
    assert_eq!(p.medft(&["data", "synth", "aptos2019"]).code, 0);
    let s = p.study("short", |t| t.replace("epochs = 2", "epochs = 100000"));
    let log = p.path("log");
    let mut child = Command::new(medft())
        .args(["run", &s])
        .current_dir(p.path(""))
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let beat = || {
        fs::read_to_string(&log)
            .unwrap()
            .lines()
            .any(|l| l.starts_with("runs: 0 of 4"))
    };
    while !beat() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            fs::read_to_string(&log).unwrap()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let log = fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("aptos2019 dinov2-b frozen") && log.contains("epoch "),
        "{log}"
    );
    assert!(!log.contains(['\u{1b}', '\r']), "{log}");
}

#[test]
fn twice_verbose_is_every_epoch() {
    let p = Place::new();
    let s = study(&p);
    let lines = |more: &[&str]| {
        let said = p.medft(&[&["run", &s, "--results-dir", &format!("r{}", more.len())], more].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        said.err
            .lines()
            .filter(|l| l.starts_with("epoch    "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all = lines(&["-vv"]);
    assert_eq!(all.len(), 4 * 6, "{all:#?}");
    let one = "epoch    6/6 aptos2019 dinov2-b unfrozen mha seed 0 (faithful): training loss ";
    assert!(
        all.iter()
            .any(|l| l.starts_with(one) && l.contains("validation quadratic_kappa ")),
        "{all:#?}"
    );
    assert_eq!(lines(&[]).len(), 0);
}

/// Neither a sentence a run nor a line that nobody's terminal holds: a plan is a line a data set and backbone, and what blocks runs
/// is said once.
#[test]
fn a_plan_fits_the_terminal() {
    let p = Place::new();
    let said = p.medft(&["plan", "paper"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines.len() < 56 + 60, "{} lines", lines.len());
    for set in ["ddsm", "chexpert", "isic2019", "aptos2019"] {
        assert_eq!(
            lines.iter().filter(|l| l.starts_with(set)).count(),
            14,
            "{set}: {}",
            said.out
        );
    }
    assert!(!said.out.contains("-0.0"), "{}", said.out);
    assert_eq!(
        p.medft(&["plan", "paper", "-v"])
            .out
            .lines()
            .filter(|l| l.contains(" blocked "))
            .count(),
        672
    );
    if !has("tmux") {
        return;
    }
    let t = Terminal::open(&p, 80, &format!("{} plan paper", medft()));
    let end = t.watch(|_| ());
    let long: Vec<&String> = end.iter().filter(|l| l.chars().count() > 80).collect();
    // A path or a command has no place to be broken at.
    assert!(long.iter().all(|l| l.trim_start().split(' ').count() < 3), "{long:#?}");
}

#[test]
fn a_slip_of_the_pen_is_told_what_was_meant() {
    let p = Place::new();
    for (line, meant) in [
        ("data verify dsm", "ddsm"),
        ("data audit isic", "isic2019"),
        ("data card chexprt", "chexpert"),
        ("data synth ddms", "ddsm"),
        ("data lock aptos", "aptos2019"),
        ("data fetch brestmnist --accept-terms", "breastmnist"),
        ("weights fetch dinv2-b", "dinov2-b"),
        ("weights verify vmanba-s", "vmamba-s"),
        ("bench forward --backbone dinov2b --steps 1", "dinov2-b"),
        ("plan papr", "paper"),
        ("published template dmo", "demo"),
        ("run demo --only dataset=dsm", "ddsm"),
        ("run demo --only sed=0", "seed"),
    ] {
        let said = p.medft(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(said.code, 2, "{line}: {}", said.all());
        assert!(
            said.err.contains(&format!("Did you mean `{meant}`?")),
            "{line}: {}",
            said.err
        );
    }
}

/// A study says at once what it lacks, and need not say what is expected of it.
#[test]
fn keys_that_a_study_lacks_are_told_together() {
    let p = Place::new();
    fs::write(p.path("bare.toml"), "title = \"Bare\"\nseeds = [0]\n").unwrap();
    let said = p.medft(&["plan", "./bare.toml"]);
    assert_eq!(said.code, 2);
    let all = "Add `preset = …`, `datasets = …`, `backbones = …`, `freeze = …` and `heads = …`.";
    assert!(said.err.contains(all), "{}", said.err);
    let without = p.study("short", |t| {
        t.lines()
            .filter(|l| !l.starts_with("expected"))
            .map(|l| format!("{l}\n"))
            .collect()
    });
    let said = p.medft(&["plan", &without]);
    assert!(said.code < 2, "{}", said.all());
}

/// The first page for a newcomer: short above the fold, with the picture and both commands, and every page one click away.
#[test]
fn the_readme_is_short_and_every_page_is_one_click_away() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let fold = readme.split("\n## Read on").next().unwrap();
    let words = fold.split_whitespace().count();
    assert!((150..=320).contains(&words), "{words} words above the fold");
    for part in [
        "make demo",
        "make reproduce",
        "docs/images/page.png",
        "A100",
        "H100",
        "reports/demo/index.html",
    ] {
        assert!(fold.contains(part), "{part}");
    }
    assert!(root.join("docs/images/page.png").is_file());
    for page in fs::read_dir(root.join("docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            assert!(
                readme.contains(&format!("(docs/{name})")),
                "{name} is not linked from the README"
            );
        }
    }
    // Links within the documentation lead somewhere.
    let mut pages: Vec<_> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    pages.push(root.join("README.md"));
    for page in pages.iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") || file.contains(' ') || file.contains('\n') {
                continue;
            }
            let to = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(to.exists(), "{}: {link}", page.display());
            if !part.is_empty() {
                let heads = fs::read_to_string(&to).unwrap();
                let slug = |l: &str| {
                    l.trim_start_matches('#')
                        .trim()
                        .to_lowercase()
                        .replace(' ', "-")
                        .replace(['`', ',', '.', '(', ')', ':'], "")
                };
                assert!(
                    heads.lines().any(|l| l.starts_with('#') && slug(l) == part),
                    "{}: {link}",
                    page.display()
                );
            }
        }
    }
}

/// Every verb's help ends with examples, and every example is a command line that is understood.
#[test]
fn every_help_has_examples_that_parse() {
    use clap::FromArgMatches;
    fn verbs(command: &clap::Command, path: &str, out: &mut Vec<String>) {
        out.push(path.to_owned());
        for v in command.get_subcommands().filter(|v| v.get_name() != "help") {
            verbs(v, format!("{path} {}", v.get_name()).trim(), out);
        }
    }
    let mut all = Vec::new();
    verbs(&medft::cli::command(), "", &mut all);
    let listed: Vec<&str> = medft::cli::EXAMPLES.iter().map(|e| e.0).collect();
    let p = Place::new();
    for verb in &all {
        assert!(listed.contains(&verb.as_str()), "`medft {verb}` has no example");
        let args: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let said = p.medft(&args);
        assert!(
            said.code == 0 && said.out.contains("Examples:\n  medft "),
            "{verb}: {}",
            said.out
        );
    }
    for (verb, examples) in medft::cli::EXAMPLES {
        for line in *examples {
            let args = line.split(" > ").next().unwrap();
            // One example has an argument in quotes.
            let args: Vec<String> = match args.split_once('"') {
                None => args.split(' ').map(str::to_owned).collect(),
                Some((before, name)) => before
                    .trim_end()
                    .split(' ')
                    .map(str::to_owned)
                    .chain([name.trim_end_matches('"').to_owned()])
                    .collect(),
            };
            let found = medft::cli::command().try_get_matches_from(&args);
            let found = found.and_then(|m| medft::cli::Cli::from_arg_matches(&m));
            assert!(found.is_ok(), "{verb}: `{line}`: {}", found.unwrap_err());
            assert!(line.starts_with(format!("medft {verb}").trim_end()), "{line}");
        }
    }
}

/// What bash offers after `line`, asked as its script asks.
fn offered(p: &Place, line: &str) -> Vec<String> {
    let script = format!(
        "COMP_WORDBREAKS=$' \\t\\n\"><=;|&(:'; source <({} completions bash); COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}; read -ra COMP_WORDS <<< \"$COMP_LINE\"; \
         case \"$COMP_LINE\" in *' ') COMP_WORDS+=('');; esac; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
         f=$(complete -p medft | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); $f medft \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        medft()
    );
    let folder = Path::new(&medft()).parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let out = Command::new("bash")
        .args(["-c", &script])
        .current_dir(p.path(""))
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    text.lines()
        .map(|l| l.trim().to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

#[test]
fn a_shell_completes_studies_sets_backbones_and_what_only_takes() {
    let bash = Command::new("bash")
        .args(["-c", "[ ${BASH_VERSINFO[0]} -ge 4 ]"])
        .status();
    if !bash.is_ok_and(|s| s.success()) {
        crate::skip::skipped("no bash of version 4 or newer");
        return;
    }
    let p = Place::new();
    fs::create_dir(p.path("experiments")).unwrap();
    fs::write(
        p.path("experiments/mine.toml"),
        crate::place::SHORT.replace("seeds = [0]", "seeds = [7, 8]"),
    )
    .unwrap();
    let has = |line: &str, wanted: &[&str], not: &[&str]| {
        let found = offered(&p, line);
        for w in wanted {
            assert!(found.iter().any(|f| f == w), "`{line}` does not offer {w}: {found:?}");
        }
        for w in not {
            assert!(!found.iter().any(|f| f == w), "`{line}` offers {w}: {found:?}");
        }
    };
    has("medft run ", &["demo", "paper", "medmnist", "mine"], &["claims"]);
    has("medft plan pa", &["paper", "paper-corrected"], &["demo"]);
    has("medft data fetch ", &["ddsm", "isic2019", "breastmnist"], &[]);
    has("medft weights fetch dino", &["dinov2-b", "dinov2-l"], &["mae-b"]);
    has("medft bench train --backbone vm", &["vmamba-s", "vmamba-b"], &[]);
    has(
        "medft run mine --only ",
        &["dataset=", "backbone=", "seed=", "split="],
        &[],
    );
    has("medft run mine --only seed", &["seed="], &["dataset="]);
    // Bash parts words at `=` and replaces what stands after it.
    has("medft run mine --only seed=", &["7", "8"], &["0", "seed=7"]);
    has("medft run mine --only seed=7,backbone=", &["dinov2-b"], &["mae-b"]);
    has(
        "medft bench train --backbone=vm",
        &["vmamba-s"],
        &["--backbone=vmamba-s"],
    );
    // Other shells do not.
    let ask = |args: &[&str]| {
        let out = Command::new(medft())
            .args(["--", "medft"])
            .args(args)
            .current_dir(p.path(""))
            .env("COMPLETE", "fish")
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let values = ask(&["run", "mine", "--only", "seed="]);
    assert!(
        values.contains("seed=7") && values.contains("seed=8") && !values.contains("seed=0"),
        "{values}"
    );
    let values = ask(&["run", "mine", "--only", "seed=7,backbone="]);
    assert!(
        values.contains("backbone=dinov2-b") && !values.contains("mae-b"),
        "{values}"
    );
    let values = ask(&["plan", "paper", "--only", "dataset="]);
    assert!(
        ["ddsm", "chexpert", "isic2019", "aptos2019"]
            .iter()
            .all(|s| values.contains(s)),
        "{values}"
    );
}

#[test]
fn man_pages_are_written_one_a_verb() {
    let p = Place::new();
    let said = p.medft(&["man", "pages"]);
    assert_eq!(said.code, 0, "{}", said.err);
    for page in [
        "medft",
        "medft-run",
        "medft-data-fetch",
        "medft-weights-verify",
        "medft-published-check",
    ] {
        let text = fs::read_to_string(p.path(&format!("pages/{page}.1"))).unwrap();
        assert!(text.contains(".TH") && text.contains("Examples:"), "{page}: {text}");
    }
    assert_eq!(said.out.lines().count(), medft::cli::EXAMPLES.len());
}
