//! The cache, by the public suite for HTTP caches: no test that has passed may fail.
//!
//! `tests/http-cache/README.md` says how it is run, and why what fails does.

mod support;

use std::process::Command;

/// What the script ends with where this machine does not allow what it needs.
const MISSING: i32 = 77;

#[test]
fn no_pass_of_the_http_cache_tests_is_lost() {
    let output = Command::new(support::root().join("tests/http-cache/run.sh"))
        .env("FOURSEVEN", env!("CARGO_BIN_EXE_fourseven"))
        .env("FOURSEVEN_PREFIX", format!("fsc{}", std::process::id()))
        .output()
        .expect("the script can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) {
        return support::skip_or_fail(said.trim());
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}
