//! What a package ships beside the program is there, whole, and made from the program's own command line.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fourseven");

fn files(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new(PROGRAM).arg("package-files").arg(&folder).status().unwrap();
    assert!(status.success());
    folder
}

#[test]
fn each_command_has_a_manual_page_and_none_that_is_hidden() {
    let pages = files("pages").join("usr/share/man/man1");
    let help = Command::new(PROGRAM).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let commands = help.split_once("Commands:").unwrap().1.lines().skip(1).map_while(|line| {
        let word = line.strip_prefix("  ")?.split_whitespace().next()?;
        Some(word.to_owned())
    });
    let commands: Vec<_> = commands.collect();
    assert!(commands.contains(&"run".to_owned()), "{help}");
    for command in &commands {
        let page = fs::read_to_string(pages.join(format!("fourseven-{command}.1")));
        assert!(page.unwrap_or_else(|error| panic!("{command}: {error}")).contains(".TH"), "{command}");
    }
    assert!(fs::read_to_string(pages.join("fourseven.1")).unwrap().contains("fourseven\\-run(1)"));
    assert!(!pages.join("fourseven-package-files.1").exists());
}

#[test]
fn completions_are_scripts_that_their_shell_reads() {
    let folder = files("completions");
    let script = folder.join("usr/share/bash-completion/completions/fourseven");
    if support::has("bash") {
        assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
    } else {
        support::skip_or_fail("there is no bash");
    }
    let printed = Command::new(PROGRAM).args(["completions", "bash"]).output().unwrap().stdout;
    assert_eq!(printed, fs::read(script).unwrap());
    for other in
        ["usr/share/zsh/vendor-completions/_fourseven", "usr/share/fish/vendor_completions.d/fourseven.fish"]
    {
        assert!(fs::read_to_string(folder.join(other)).unwrap().contains("doctor"), "{other}");
    }
}

#[test]
fn the_unit_starts_what_the_command_line_takes() {
    let unit = fs::read_to_string(files("unit").join("usr/lib/systemd/system/fourseven.service")).unwrap();
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/fourseven ")).unwrap();
    let mut words: Vec<_> = started.split_whitespace().collect();
    let good = support::root().join("tests/good/full.toml");
    *words.last_mut().unwrap() = good.to_str().unwrap();
    words.push("--print-config");
    let output = Command::new(PROGRAM).args(&words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
