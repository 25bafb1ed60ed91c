//! The README keeps up with the code: what it lists is all there is, what it names is there, and what it
//! shows is taken by the program.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fourseven::datapath::Reason;

const README: &str = include_str!("../README.md");

/// Runs the program with this on its standard input.
fn fourseven(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fourseven"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints, where it has nothing to object to.
fn prints(arguments: &[&str], input: &str) -> String {
    let Output { status, stdout, stderr } = fourseven(arguments, input);
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success() && said.is_empty(), "{arguments:?} {status} {said}");
    String::from_utf8(stdout).unwrap()
}

/// The part under a heading, up to the next of its rank.
fn section(title: &str) -> &'static str {
    let (_, behind) = README.split_once(&format!("\n## {title}\n")).expect(title);
    behind.split("\n## ").next().unwrap()
}

fn block(part: &'static str, language: &str) -> &'static str {
    let (_, behind) = part.split_once(&format!("```{language}\n")).expect("a block");
    behind.split("```").next().unwrap()
}

#[test]
fn it_explains_every_reason_and_no_other_as_reports_do_and_in_their_order() {
    let rows = section("Reasons").lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let want: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("{reason}` | {}", reason.explanation())).collect();
    assert_eq!(rows.collect::<Vec<_>>(), want);
}

#[test]
fn its_configuration_is_right_and_shows_the_defaults() {
    let example = block(section("Configuration"), "toml");
    let given = prints(&["check", "--print", "-"], example);
    let least = "[[service]]\nname = \"web\"\nlisten = [\"tcp/10.47.0.1:80\", \"tcp/[fd47::1]:80\"]\n\
                 backends = [\"10.47.2.2:8080\", \"[fd47:2::2]:8080\"]\n";
    let default = prints(&["check", "--print", "-"], least);
    let before = |text: &str| text.split("[[service]]").next().unwrap().to_owned();
    assert_eq!(before(&given), before(&default));
    // Each key that can be printed is shown, and `seed`, which has no default, is told of.
    let keys = |text: &str| -> HashSet<String> {
        text.lines().filter_map(|line| Some(line.split_once(" =")?.0.trim().to_owned())).collect()
    };
    assert_eq!(keys(&given).difference(&keys(example)).count(), 0);
    assert!(section("Configuration").contains("`seed = 47`"));
}

#[test]
fn its_routes_are_right() {
    let printed = prints(&["check", "--print", "-"], block(section("Routes"), "toml"));
    assert_eq!(printed.matches("[[service.route]]").count(), 6, "{printed}");
}

#[test]
fn its_run_is_taken() {
    let shown = block(section("Run it in a network you can type in"), "sh");
    let (_, behind) = shown.split_once("target/release/fourseven ").expect("a run");
    let line = behind.replace("\\\n", " ").replace('\'', "");
    let words = line.lines().next().unwrap().split_whitespace().chain(["--print-config"]);
    let printed = prints(&words.collect::<Vec<_>>(), "");
    assert_eq!(printed.matches(":8080\"").count(), 5, "{printed}");
    assert!(printed.contains(r#"listen    = ["tcp/10.47.0.1:80", "tcp/[fd47::1]:80"]"#), "{printed}");
}

#[test]
fn every_flag_it_names_is_there() {
    let mut known = "--release --bench ".to_owned();
    for command in [&["run"][..], &["check"], &["lab"], &["lab", "serve"], &["lab", "load"]] {
        known += &prints(&[command, &["--help"]].concat(), "");
    }
    for script in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("netns-scripts")).unwrap() {
        known += &fs::read_to_string(script.unwrap().path()).unwrap();
    }
    let known: HashSet<&str> = flags(&known).collect();
    let unknown: HashSet<&str> = flags(README).filter(|flag| !known.contains(flag)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The `--words` of a text.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    text.split("--").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        rest.get(..end).filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}

#[test]
fn its_tables_of_the_rfcs_are_complete_and_name_tests_that_exist() {
    let part = section("NAT behaviour, by the book");
    for (rfc, most) in [("RFC 4787", 14), ("RFC 5382", 10), ("RFC 5508", 11)] {
        let (_, table) = part.split_once(&format!("| {rfc}, ")).expect(rfc);
        let rows = table.lines().take_while(|line| !line.is_empty()).filter_map(|row| row.split('|').nth(1));
        let demands: HashSet<String> = rows.flat_map(demands).collect();
        let missing: Vec<u32> =
            (1..=most).filter(|number| !demands.contains(&format!("REQ-{number}"))).collect();
        assert!(missing.is_empty(), "{rfc} lacks {missing:?}");
    }
    let sources = sources();
    let last_cells =
        part.lines().filter(|line| line.starts_with("| R")).filter_map(|row| row.rsplit('|').nth(1));
    let tests: Vec<&str> = last_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(tests.len() > 30, "{tests:?}");
    let gone: Vec<_> = tests.iter().filter(|test| !sources.contains(&format!("fn {test}("))).collect();
    assert!(gone.is_empty(), "no such tests: {gone:?}");
}

/// `REQ-4` and `REQ-5` of "REQ-4, REQ-5 errors from either side".
fn demands(cell: &str) -> impl Iterator<Item = String> {
    let words = cell.split([' ', ',']).filter(|word| word.starts_with("REQ-"));
    words.map(str::to_owned)
}

/// All Rust sources, one behind the other.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}
