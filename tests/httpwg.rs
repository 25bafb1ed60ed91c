//! HTTP/2 conformance, by a suite that others have written: no case that has passed may fail.
//!
//! `tests/httpwg/README.md` says how it is run, and why what fails does.

mod support;

use std::process::Command;

/// What the script ends with where this machine does not allow what it needs.
const MISSING: i32 = 77;

#[test]
fn no_pass_of_the_http_2_suite_is_lost() {
    let output = Command::new(support::root().join("tests/httpwg/run.sh"))
        .env("FOURSEVEN", env!("CARGO_BIN_EXE_fourseven"))
        .env("FOURSEVEN_PREFIX", format!("fsw{}", std::process::id()))
        .output()
        .expect("the script can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        return support::skip_or_fail(said.trim());
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}
