//! `fourseven check` over a set of broken files, each with all that is said about it pinned, byte for byte.
//!
//! `tests/broken/NAME.toml` is the file, and `tests/broken/NAME.expected` the exit status and what comes on
//! stdout and stderr. `BLESS=1 cargo test --test check` writes the latter anew; then look at the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fourseven"))
        .arg("check")
        .arg(file.file_name().unwrap())
        .current_dir(file.parent().unwrap())
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    format!(
        "exit status: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap()
    )
}

fn broken_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn each_broken_file_gets_the_messages_that_are_pinned() {
    let bless = std::env::var_os("BLESS").is_some();
    let files = broken_files();
    assert!(files.len() >= 25, "only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let told = told(&check(&file));
        let expected = file.with_extension("expected");
        if bless {
            fs::write(&expected, &told).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != told {
            wrong.push(format!("{}\n{told}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not as pinned (BLESS=1 pins it anew):\n\n{}", wrong.join("\n\n"));
}

#[test]
fn every_message_has_a_place_and_says_what_to_write() {
    for file in broken_files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let output = check(&file);
        let text = String::from_utf8(output.stderr).unwrap();
        let messages =
            text.lines().filter(|line| line.starts_with("  x ") || line.starts_with("  ! ")).count();
        assert!(messages > 0, "{name} has no message:\n{text}");
        let helps = text.lines().filter(|line| line.starts_with("  help: ")).count();
        assert_eq!(helps, messages, "{name} has a message without advice:\n{text}");
        let places =
            text.lines().filter(|line| line.trim_start().starts_with(&format!(",-[{name}:"))).count();
        assert!(places >= messages, "{name} has a message without a place:\n{text}");
        assert!(!text.contains('\u{1b}'), "{name}: an escape reaches the terminal:\n{text}");
    }
}

#[test]
fn files_that_are_named_are_looked_for_beside_the_configuration_and_printed_for_any_place() {
    let folder = std::env::temp_dir().join(format!("fourseven-check-{}", std::process::id()));
    fs::create_dir_all(folder.join("tls")).unwrap();
    let file = folder.join("site.toml");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good/site.toml"), &file).unwrap();
    for name in ["site", "api", "ca"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
        fs::write(folder.join(format!("tls/{name}.pem")), made.cert.pem()).unwrap();
        fs::write(folder.join(format!("tls/{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    assert_eq!(
        told(&check(&file)),
        "exit status: 0\n--- stdout\nsite.toml: fine (3 services, 4 listens, 4 routes, 9 backends)\n--- stderr\n"
    );
    let print = |file: &Path, folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fourseven"));
        let output = command.args(["check", "--print"]).arg(file).current_dir(folder).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = print(Path::new("site.toml"), &folder);
    let elsewhere = folder.join("tls/elsewhere.toml");
    fs::write(&elsewhere, &printed).unwrap();
    assert_eq!(print(&elsewhere, Path::new("/")), printed);

    fs::remove_file(folder.join("tls/api.key")).unwrap();
    fs::write(folder.join("tls/api.pem"), "").unwrap();
    let told = told(&check(&file));
    fs::remove_dir_all(folder).unwrap();
    for part in ["`tls/api.pem` is empty", "there is no file `tls/api.key`", "site.toml:14:", "2 mistakes"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
