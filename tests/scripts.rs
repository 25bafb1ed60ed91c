//! The shell scripts: they pass shellcheck, and making the lab network by hand mends what is broken.
//!
//! Every test that makes namespaces gives them a prefix of its own, and takes them away again
//! also when it fails.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A lab network under its own prefix, gone when this value is.
struct Network {
    prefix: String,
    run_dir: PathBuf,
    /// What serves, where something is to be served.
    program: &'static str,
}

impl Network {
    /// `None`, having said so, where this machine cannot have one.
    fn new(name: &str) -> Option<Self> {
        if !support::is_root() {
            support::skip_or_fail("making namespaces takes root (or `unshare -rnm`)");
        } else if !support::has("ip") || !support::has("ping") {
            support::skip_or_fail("`ip` or `ping` is missing: install iproute2 and iputils-ping");
        } else {
            let prefix = format!("fst{}{name}", std::process::id());
            let run_dir = std::env::temp_dir().join(&prefix);
            std::fs::create_dir_all(&run_dir).expect("the temporary folder can be written to");
            let network = Self { prefix, run_dir, program: "none" };
            // In a user namespace the first script covers /run, for all of us.
            let probe = {
                let _alone = ONE_AT_A_TIME.lock();
                network.script("down.sh", &[])
            };
            if probe.status.success() {
                return Some(network);
            }
            support::skip_or_fail(&text(&probe.stderr));
        }
        None
    }

    fn script(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new(support::root().join("netns-scripts").join(script))
            .args(arguments)
            .env("FOURSEVEN_PREFIX", &self.prefix)
            .env("XDG_RUNTIME_DIR", &self.run_dir)
            .env("FOURSEVEN", self.program)
            .output()
            .expect("the script can be started")
    }

    /// Runs a script that must succeed; what it printed.
    fn works(&self, script: &str, arguments: &[&str]) -> String {
        let output = self.script(script, arguments);
        assert!(output.status.success(), "{script} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn ip(&self, name: &str, arguments: &str) -> String {
        let output = ip(&format!("-n {} {arguments}", self.namespace(name)));
        assert!(output.status.success(), "{name}: ip {arguments}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Our namespaces, and what a user would notice in each: addresses, routes, MTUs.
    fn state(&self) -> BTreeMap<String, Vec<String>> {
        let names = text(&ip("netns list").stdout);
        let ours = names.lines().filter_map(|line| line.split(' ').next()?.strip_prefix(&self.prefix));
        ours.map(|name| {
            let name = name.trim_start_matches('-');
            let mut facts = Vec::new();
            for line in self.ip(name, "-o addr show scope global").lines() {
                facts.push(line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" "));
            }
            for line in self.ip(name, "-o link show").lines() {
                // Indexes and hardware addresses may differ; flags and MTU must not.
                let words: Vec<_> = line.split_whitespace().skip(2).take(3).collect();
                facts.push(words.join(" "));
            }
            for family in ["-4", "-6"] {
                let routes = self.ip(name, &format!("{family} route show"));
                let lines = routes.lines().filter(|line| !line.contains("fe80"));
                facts.extend(lines.map(|line| line.trim().to_owned()));
            }
            facts.sort();
            (name.to_owned(), facts)
        })
        .collect()
    }

    fn reaches_every_backend(&self, backends: u8) {
        for backend in 1..=backends {
            for address in [format!("10.47.2.{}", backend + 1), format!("fd47:2::{:x}", backend + 1)] {
                let ping = format!("netns exec {} ping -c 1 -W 2 {address}", self.namespace("client"));
                let output = ip(&ping);
                assert!(output.status.success(), "{address} does not answer: {}", text(&output.stdout));
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.script("down.sh", &[]);
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

fn ip(arguments: &str) -> Output {
    Command::new("ip").args(arguments.split(' ')).output().expect("ip can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn shellcheck_finds_nothing_in_any_script() {
    if !support::has("shellcheck") {
        return support::skip_or_fail("`shellcheck` is missing");
    }
    let mut scripts = vec![support::root().join(".ci/run"), support::root().join("tests/httpwg/run.sh")];
    for entry in std::fs::read_dir(support::root().join("netns-scripts")).expect("netns-scripts is there") {
        let path = entry.expect("netns-scripts can be read").path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            scripts.push(path);
        }
    }
    assert!(scripts.len() >= 5, "the scripts are where they were: {scripts:?}");
    let output = Command::new("shellcheck").arg("-x").args(&scripts).output().expect("shellcheck starts");
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn up_twice_is_the_same_as_up_once_and_down_twice_is_fine() {
    let Some(network) = Network::new("a") else { return };
    let picture = network.works("up.sh", &[]);
    let once = network.state();
    assert_eq!(once.keys().collect::<Vec<_>>(), ["b1", "b2", "b3", "client", "lb"]);
    network.reaches_every_backend(3);

    assert_eq!(network.works("up.sh", &[]), picture);
    assert_eq!(network.state(), once);
    for address in ["10.47.1.2/24", "fd47:1::2/64", "10.47.2.4/32", "fd47:2::4/128"] {
        assert!(picture.contains(address), "{address} is not in the picture:\n{picture}");
    }

    assert!(network.works("down.sh", &[]).contains("gone"));
    assert!(network.state().is_empty());
    assert!(network.works("down.sh", &[]).contains("Nothing to take away"));
}

#[test]
fn up_mends_what_is_broken_and_leaves_strangers_alone() {
    let Some(network) = Network::new("b") else { return };
    network.works("up.sh", &["--backends", "2"]);
    let whole = network.state();
    let stranger = network.namespace("visitor");
    ip(&format!("netns add {stranger}"));

    network.ip("lb", "link del dev b1");
    network.ip("client", "addr flush dev eth0");
    network.ip("lb", "link set dev client mtu 1300 down");
    ip(&format!("netns del {}", network.namespace("b2")));
    ip(&format!("netns add {}", network.namespace("b7")));
    network.works("up.sh", &["--backends", "2"]);

    let mut mended = network.state();
    assert!(mended.remove("visitor").is_some(), "a namespace that up.sh did not make is gone");
    assert_eq!(mended, whole);
    network.reaches_every_backend(2);

    network.works("down.sh", &[]);
    assert_eq!(network.state().into_keys().collect::<Vec<_>>(), ["visitor"]);
    ip(&format!("netns del {stranger}"));
}

#[test]
fn up_follows_its_options() {
    let Some(network) = Network::new("c") else { return };
    network.works("up.sh", &["--backends", "3"]);
    let picture = network.works("up.sh", &["--backends", "1", "--mtu-backend", "1400"]);
    assert_eq!(network.state().into_keys().collect::<Vec<_>>(), ["b1", "client", "lb"]);
    assert!(picture.contains("mtu 1400"), "{picture}");

    // The link is small and the backend does not say so: the client has to be told.
    let output =
        ip(&format!("netns exec {} ping -M do -s 1450 -c 1 -W 1 10.47.2.2", network.namespace("client")));
    assert!(text(&output.stdout).contains("mtu = 1400"), "{}", text(&output.stdout));
}

#[test]
fn served_backends_answer_and_end_with_the_network() {
    if !support::has("curl") || !support::has("python3") {
        return support::skip_or_fail("`curl` or `python3` is missing");
    }
    for (name, program) in [("d", env!("CARGO_BIN_EXE_fourseven")), ("e", "none")] {
        let Some(mut network) = Network::new(name) else { return };
        network.program = program;
        let picture = network.works("up.sh", &["--backends", "2", "--serve"]);
        let again = network.works("up.sh", &["--backends", "2", "--serve"]);
        assert_eq!(again, picture, "{program}: the servers run on");
        for (backend, host) in [("b1", "10.47.2.2"), ("b2", "[fd47:2::3]")] {
            let client = network.namespace("client");
            let output = ip(&format!("netns exec {client} curl -sgS --max-time 5 http://{host}:8080/"));
            assert!(text(&output.stdout).contains(backend), "{program}: {backend}: {output:?}");
        }
        let pids = text(&ip(&format!("netns pids {}", network.namespace("b1"))).stdout);
        assert_eq!(pids.lines().count(), 1, "{program}: one server a backend");
        network.works("down.sh", &[]);
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pids.trim()));
        assert!(!command.is_ok_and(|line| line.contains("8080")), "{program}: the server still runs");
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for (script, arguments, want) in [
        ("up.sh", &["--backends", "many"][..], "takes a number"),
        ("up.sh", &["--backends", "0"], "1 to 100"),
        ("up.sh", &["--mtu-backend", "600"], "1280"),
        ("up.sh", &["sideways"], "unknown argument: sideways"),
        ("down.sh", &["all"], "unknown argument: all"),
        ("capture.sh", &["-c", "few"], "takes a number"),
        ("bench-l4.sh", &["--fast"], "unknown argument: --fast"),
        ("bench-l7.sh", &["--fast"], "unknown argument: --fast"),
        ("bench-l7.sh", &["--json"], "--json takes a file"),
        ("../tests/httpwg/run.sh", &["--fast"], "unknown argument: --fast"),
    ] {
        let path = support::root().join("netns-scripts").join(script);
        let output = Command::new(path).args(arguments).output().expect("the script can be started");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{script} {arguments:?}: {said}");
        assert!(said.contains(want), "{script} {arguments:?}: {said}");
    }
}
