//! `fourseven lab`: it plays its story wherever it is started, and leaves nothing behind however it ends.
//!
//! Every lab is started with a mark in its environment, which all its processes inherit. So what is
//! left of it can be found by looking at all processes, whoever their parent is by then.

#![expect(clippy::disallowed_methods, reason = "the world is waited for in real time")]

#[path = "lab/started.rs"]
mod started;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use self::started::{FOURSEVEN, Lab, network, processes};
use self::support::copy::Copy;

/// Whether this user may have namespaces and a TUN device here. Says so where not, in the lab's own
/// words. A lab that fails is not one that is forbidden.
fn allowed() -> bool {
    static FORBIDDEN: LazyLock<Option<String>> = LazyLock::new(|| {
        let output = Command::new(FOURSEVEN).args(["lab", "--json"]).output().expect("the program starts");
        let json: Value = serde_json::from_slice(&output.stdout).ok()?;
        json["forbidden"].as_str().map(str::to_owned)
    });
    FORBIDDEN.as_ref().is_none_or(|forbidden| {
        support::skip_or_fail(forbidden);
        false
    })
}

/// The JSON of a story that went well.
fn story(lab: Lab) -> Value {
    let (status, output) = lab.end();
    assert!(status.success(), "{status}: {output}");
    let json: Value = serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(json["surprise"], Value::Null, "{output}");
    assert_eq!(json["balancer"]["agree"], true, "{output}");
    json
}

/// What the tries of one act came to, by this field.
fn field<'a>(story: &'a Value, act: &str, field: &str) -> Vec<&'a str> {
    let tries = story["tries"].as_array().expect("tries are a list");
    tries.iter().filter(|told| told["act"] == act).filter_map(|told| told[field].as_str()).collect()
}

#[test]
fn the_story_goes_well_over_a_real_tun_and_leaves_nothing() {
    if !allowed() {
        return;
    }
    let story = story(Lab::here(&["--json"]));
    assert_eq!(story["where"], "namespaces");
    let names = field(&story, "requests", "backend");
    assert_eq!(names, ["backend-1", "backend-2", "backend-3", "backend-1", "backend-2", "backend-3"]);
    let seen = field(&story, "requests", "seen");
    assert!(seen.iter().all(|seen| seen.starts_with("10.47.3.")), "full NAT: {seen:?}");
    assert_eq!(field(&story, "protocols", "end"), ["answered"; 3]);
    for (act, end) in [("server_ends", "refused"), ("backend_ends", "unreachable")] {
        let ends = field(&story, act, "end");
        assert_eq!(ends.iter().filter(|&&came| came == end).count(), 3, "{act}: {ends:?}");
        assert!(ends.ends_with(&["answered"; 3]), "{act}: {ends:?}");
    }
    assert_eq!(field(&story, "nothing", "end"), ["refused"]);
}

/// The visits of one act.
fn visits<'a>(story: &'a Value, act: &str) -> Vec<&'a Value> {
    story["visits"]
        .as_array()
        .expect("visits are a list")
        .iter()
        .filter(|visit| visit["act"] == act)
        .collect()
}

/// What the answers of one visit say, by this field.
fn said<'a>(visit: &'a Value, field: &str) -> Vec<&'a str> {
    let answers = visit["answers"].as_array().expect("answers are a list");
    answers.iter().filter_map(|said| said[field].as_str()).collect()
}

#[test]
fn tls_goes_through_layer_4_and_ends_at_layer_7() {
    if !allowed() {
        return;
    }
    let story = story(Lab::here(&["--json"]));
    let through = visits(&story, "through")[0];
    let backend = said(through, "backend")[0];
    assert_eq!(said(through, "backend"), [backend; 2], "one connection has one backend");
    assert_eq!(through["connection"]["issuer"], "the backends' CA");
    assert_eq!(through["connection"]["subject"], format!("{backend}.example.com"));
    assert!(said(through, "forwarded_for").is_empty(), "{through}");

    let ended = visits(&story, "ended")[0];
    assert_eq!(said(ended, "backend"), ["backend-1", "backend-2", "backend-3", "backend-3"]);
    assert_eq!(ended["connection"]["issuer"], "the balancer's CA");
    assert!(said(ended, "seen").iter().all(|seen| seen.starts_with("10.47.2.1:")), "{ended}");
    assert_eq!(said(ended, "forwarded_for"), ["10.47.1.2"; 4]);
}

#[test]
fn a_pool_saves_connections_and_a_backend_that_ends_costs_no_request() {
    if !allowed() {
        return;
    }
    let story = story(Lab::here(&["--json"]));
    let sum = |group: &str, count: &str| -> u64 {
        let upstreams = story["balancer"]["layer7"]["upstreams"].as_array().expect("upstreams are a list");
        upstreams.iter().filter(|one| one["group"] == group).filter_map(|one| one[count].as_u64()).sum()
    };
    for (group, opened, reused) in [("new", 12, 0), ("pool", 2, 10)] {
        assert_eq!((sum(group, "opened"), sum(group, "reused")), (opened, reused), "{group}");
        let seen: BTreeSet<_> = said(visits(&story, group)[0], "seen").into_iter().collect();
        assert_eq!(seen.len() as u64, opened, "{group}: connections that backends saw");
    }
    let visits = visits(&story, "outlives");
    let [before, after] = visits[..] else { panic!("{visits:?}") };
    assert_eq!(before["connection"], after["connection"], "the client's connection stays");
    let names =
        [before, after].map(|visit| said(visit, "backend").into_iter().collect::<BTreeSet<_>>().len());
    assert_eq!(names, [2, 1]);
    for visit in [before, after] {
        let statuses: Vec<_> =
            visit["answers"].as_array().unwrap().iter().map(|said| &said["status"]).collect();
        assert_eq!(statuses, [200; 6]);
    }
}

#[test]
fn the_configuration_of_the_lab_is_shown_and_right() {
    let script =
        format!("{FOURSEVEN} lab --print-config | sed 's/^tls .*/tls = \"auto\"/' | {FOURSEVEN} check -");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let (status, text) = Lab::start(command, &[]).end();
    assert!(status.success() && text.contains("fine (4 services"), "{text}");
}

#[test]
fn with_dnat_the_backend_sees_the_client() {
    if !allowed() {
        return;
    }
    let story = story(Lab::here(&["--json", "--nat", "dnat"]));
    let seen = field(&story, "requests", "seen");
    assert!(seen.len() == 6 && seen.iter().all(|seen| seen.starts_with("10.47.1.2:")), "{seen:?}");
}

#[test]
fn every_kind_of_queue_and_any_number_of_backends_will_do() {
    if !allowed() {
        return;
    }
    for arguments in [
        &["--json", "--io", "plain"][..],
        &["--json", "--io", "offload", "--queues", "2"],
        &["--json", "--backends", "1"],
        &["--json", "--backends", "16", "--scheduler", "mh"],
    ] {
        let story = story(Lab::here(arguments));
        assert_eq!(story["where"], "namespaces", "{arguments:?}");
    }
}

#[test]
fn the_story_fits_a_page_and_is_plain_text_where_nobody_looks() {
    let (status, text) = Lab::here(&[]).end();
    assert!(status.success(), "{text}");
    let lines: Vec<_> = text.trim_end().lines().collect();
    assert!(lines.len() <= 60, "{} lines:\n{text}", lines.len());
    let wide = if allowed() { 80 } else { 100 };
    assert!(lines.iter().all(|line| line.chars().count() <= wide), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    for part in ["VIP 10.47.0.1", "backend-3", "1  Layer 4", "3  ", "the sums agree", "Next"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    if allowed() {
        let shown = include_str!("../README.md").split_once("### What `lab` prints").expect("a part").1;
        assert_eq!(acts(&text), acts(shown.split("\n## ").next().unwrap()), "the README shows other acts");
    }
}

/// The headings of acts, without the time at their end.
fn acts(text: &str) -> Vec<&str> {
    let numbered =
        |line: &&str| line.get(1..3) == Some("  ") && line.starts_with(|c: char| c.is_ascii_digit());
    text.lines().filter(numbered).filter_map(|line| Some(line.rsplit_once("  ")?.0)).collect()
}

#[test]
fn ctrl_c_and_sigterm_end_it_with_the_table_and_leave_nothing() {
    if !allowed() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut lab = Lab::here(&["--hold"]);
        lab.await_line("In the client:");
        assert!(processes(&lab.mark).len() >= 6, "{:?}", processes(&lab.mark));
        assert_eq!(network(), lab.before, "the host's network is left alone");
        lab.signal(signal);
        let (status, text) = lab.end();
        assert!(status.success() && text.contains("the sums agree"), "{signal}: {status} {text}");
    }
}

#[test]
fn killed_it_takes_everything_along_at_any_moment() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::here(&["--hold"]);
    lab.await_line("In the client:");
    lab.signal(Signal::SIGKILL);
    lab.end();
    // While it is built, while it plays, and with signals that it does handle.
    for (signal, moments) in [(Signal::SIGKILL, 12), (Signal::SIGTERM, 6)] {
        for moment in 0..moments {
            let lab = Lab::here(&[]);
            sleep(Duration::from_millis(moment * 40));
            lab.signal(signal);
            lab.end();
        }
    }
}

#[test]
fn a_backend_that_is_killed_while_the_network_is_held_is_told_of() {
    if !allowed() {
        return;
    }
    let mut lab = Lab::here(&["--hold"]);
    // Backends do not fail in this story; what follows is counted on.
    lab.await_line("4  To the backends");
    let line = lab.await_line("backend-2   nsenter -t ");
    lab.await_line("In the client:");
    let pid = line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    lab.await_line("backend-2 is gone");
    lab.signal(Signal::SIGINT);
    assert!(lab.end().0.success());
}

#[test]
fn a_backend_command_and_all_that_it_starts_end_with_the_lab() {
    if !allowed() {
        return;
    }
    let serve =
        format!("sleep 1000 & {FOURSEVEN} lab serve --name mine --http $FOURSEVEN_ADDRESS:$FOURSEVEN_PORT");
    let story = story(Lab::here(&["--json", "--backends", "2", "--backend-cmd", &serve]));
    assert_eq!(field(&story, "requests", "backend"), ["mine"; 6]);
    // Ended all at once: each refusal is one, and none an answer that was broken off.
    let refused = field(&story, "server_ends", "end").iter().filter(|end| **end == "refused").count();
    assert_eq!(refused, 3, "{story}");

    let mut lab = Lab::here(&["--hold", "--backends", "2", "--backend-cmd", &serve]);
    lab.await_line("In the client:");
    assert!(processes(&lab.mark).iter().any(|line| line.starts_with("sleep")));
    lab.signal(Signal::SIGKILL);
    lab.end();

    let (status, text) = Lab::here(&["--backend-cmd", "exit 3"]).end();
    assert!(status.code() == Some(1) && text.contains("the backend command ended"), "{text}");
    // It is the user's command that has to be mended, and not the lab.
    assert!(!text.contains("--memory"), "{text}");
}

#[test]
fn a_program_in_a_host_is_in_its_network_and_ends_with_the_lab() {
    if !allowed() {
        return;
    }
    let folder = Copy::make("shell");
    let shell = folder.0.join("shell");
    fs::write(&shell, "#!/bin/sh\nsleep 1000 &\ncat /proc/net/dev\necho pid $$\nexit 7\n").unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(FOURSEVEN);
    command.arg("lab").env("SHELL", &shell);
    let (status, text) = Lab::start(command, &["--shell", "backend-1"]).end();
    assert!(status.success() && text.contains("eth0") && text.contains("the sums agree"), "{text}");
    // First in a process namespace of its own, so that nothing it started can outlive it.
    assert!(text.contains("pid 1\n"), "{text}");

    let (status, text) = Lab::here(&["--shell", "backend-4"]).end();
    assert!(status.code() == Some(2) && text.contains("no host is called `backend-4`"), "{text}");
}

#[test]
fn without_root_it_plays_in_namespaces_where_everybody_may_open_the_tun_node() {
    if !support::is_root() {
        support::skip_or_fail("needs root, to give it up");
        return;
    }
    if !allowed() {
        return;
    }
    let copy = Copy::make("rootless");
    // A node of our own in a mount namespace of our own: the machine's stays as it is.
    let script = "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let start = || {
        let mut command = Command::new("unshare");
        command.current_dir("/").args(["--mount", "sh", "-c", script, "sh", &copy.path(), "lab"]);
        command
    };
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if limit.trim() == "0" {
        support::skip_or_fail("user namespaces are switched off");
        return;
    }
    let outcome = story(Lab::start(start(), &["--json"]));
    assert_eq!((&outcome["where"], &outcome["forbidden"]), (&"namespaces".into(), &Value::Null));

    let mut lab = Lab::start(start(), &["--hold"]);
    lab.await_line("In the client:");
    lab.signal(Signal::SIGKILL);
    lab.end();
}

#[test]
fn where_the_tun_node_is_shut_it_says_so_and_plays_in_memory() {
    if !support::is_root() {
        support::skip_or_fail("needs root, to give it up");
        return;
    }
    let copy = Copy::make("shut");
    for (node, what, mend) in [
        ("mknod -m 600 /dev/net/tun c 10 200", "/dev/net/tun has mode 0600", "chmod 0666 /dev/net/tun"),
        ("true", "/dev/net/tun is missing", "mknod"),
        // As a container engine leaves it that was told to mount what its host lacks.
        ("mkdir /dev/net/tun", "/dev/net/tun is there, but is not the TUN device node", "mknod"),
        (
            "mount -o remount,nodev /dev/net && mknod -m 666 /dev/net/tun c 10 200",
            "mounted with `nodev`",
            "remount,dev",
        ),
    ] {
        let script = format!(
            "mount -t tmpfs none /dev/net && {node} && \
             exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\""
        );
        let mut command = Command::new("unshare");
        command.current_dir("/").args(["--mount", "sh", "-c", &script, "sh", &copy.path(), "lab"]);
        let (status, text) = Lab::start(command, &[]).end();
        assert!(status.success(), "{text}");
        // A machine may forbid more than this node; then that is what is told, and the story goes on.
        assert!(text.contains("IN MEMORY") && text.contains("To mend it: "), "{text}");
        if fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Seccomp:\t0")) {
            assert!(text.contains(what) && text.contains(mend), "{text}");
        }
        assert!(text.contains("Layer 7 is left out here") && text.contains("the sums agree"), "{text}");
    }
}

#[test]
fn root_without_capabilities_is_not_told_to_become_root() {
    if !support::is_root() {
        support::skip_or_fail("needs root, to give up what it may do");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", FOURSEVEN, "lab"]);
    let (status, text) = Lab::start(command, &[]).end();
    assert!(status.success() && text.contains("IN MEMORY"), "{text}");
    // Where a switch or a filter forbids namespaces to everybody, that is what is told instead.
    if fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Seccomp:\t0")) {
        assert!(text.contains("--cap-add SYS_ADMIN") && !text.contains("with sudo"), "{text}");
    }
}

#[test]
fn in_memory_the_story_is_the_same_for_every_scheduler_and_either_nat() {
    for nat in ["full", "dnat"] {
        for scheduler in ["rr", "wrr", "lc", "wlc", "sh", "mh", "p2c"] {
            for backends in ["1", "3"] {
                let arguments =
                    ["--memory", "--json", "--nat", nat, "--scheduler", scheduler, "--backends", backends];
                let story = story(Lab::here(&arguments));
                assert_eq!(story["where"], "memory", "{arguments:?}");
                assert_eq!(field(&story, "requests", "end"), ["answered"; 6], "{arguments:?}");
            }
        }
    }
}

#[test]
fn in_memory_backends_fail_as_they_do_in_namespaces() {
    let story = story(Lab::here(&["--memory", "--json"]));
    for (act, end) in [("server_ends", "refused"), ("backend_ends", "unreachable")] {
        let ends = field(&story, act, "end");
        assert_eq!(ends.iter().filter(|&&came| came == end).count(), 3, "{act}: {ends:?}");
    }
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    let script = format!("{FOURSEVEN} lab | head -n 2");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let (status, text) = Lab::start(command, &[]).end();
    assert!(status.success() && text.trim().lines().count() == 2, "{text}");
}
