//! `fourseven doctor`, as people meet it: with all rights, with none, and where the TUN node lacks.

mod support;

use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fourseven");

fn doctor(before: &[&str]) -> (Output, Value) {
    let line: Vec<&str> = before.iter().copied().chain([PROGRAM, "doctor", "--json"]).collect();
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output, found)
}

fn finding<'a>(found: &'a Value, what: &str) -> &'a Value {
    let all = found["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("{what}: {found:#}"))
}

#[test]
fn with_all_rights_it_finds_that_all_is_well_and_changes_nothing() {
    if !support::is_root() {
        return support::skip_or_fail("this needs root");
    }
    let links = || Command::new("ip").args(["-br", "link"]).output().unwrap().stdout;
    let before = links();
    let (output, found) = doctor(&[]);
    assert_eq!(output.status.code(), Some(0), "{found:#}");
    assert_eq!(found["ready"], true);
    assert_eq!(finding(&found, "CAP_NET_ADMIN")["state"], "fine");
    assert_eq!(finding(&found, "TUN device")["state"], "fine");
    assert_eq!(String::from_utf8_lossy(&links()), String::from_utf8_lossy(&before));
}

#[test]
fn without_the_right_it_names_it_with_the_command_that_gives_it() {
    if !support::is_root() || !support::has("setpriv") {
        return support::skip_or_fail("this needs root and setpriv");
    }
    let (_, found) = doctor(&["setpriv", "--bounding-set", "-net_admin"]);
    let right = finding(&found, "CAP_NET_ADMIN");
    assert_eq!(right["state"], "note");
    assert!(right["mend"].as_str().unwrap().contains("setcap cap_net_admin+ep"), "{right}");
}

#[test]
fn where_the_node_lacks_the_answer_is_no_with_the_command_that_makes_it() {
    if !support::is_root() || !support::has("unshare") {
        return support::skip_or_fail("this needs root and unshare");
    }
    let hidden = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let (output, found) = doctor(&["unshare", "-m", "sh", "-c", hidden, "sh"]);
    assert_eq!(output.status.code(), Some(1), "{found:#}");
    assert_eq!(found["ready"], false);
    let device = finding(&found, "TUN device");
    assert_eq!(device["state"], "wrong");
    assert!(device["mend"].as_str().unwrap().contains("mknod -m 0666 /dev/net/tun c 10 200"), "{device}");
}

#[test]
fn for_people_each_finding_is_a_line_and_its_remedy_another() {
    let output = Command::new(PROGRAM).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let known = ["ok    ", "note  ", "NO    ", "                        to mend it: "];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");
}
