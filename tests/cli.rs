//! The command line as a user meets it: help, wrong usage, exit status, pipes that close.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

/// The program, with nothing of the environment that would change what it says.
fn fourseven(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourseven"));
    command
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/good"))
        .env_remove("RUST_LOG")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    fourseven(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_name_alone_tells_newcomers_where_to_start() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0));
    let first = out(&output).lines().next().unwrap().to_owned();
    assert!(first.contains("fourseven lab"), "{first}");
    assert_eq!(err(&output), "");
}

#[test]
fn help_and_version_are_results() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["-V"],
        &["run", "--help"],
        &["check", "--help"],
        &["lab", "--help"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(out(&output).len() > 10 && err(&output).is_empty(), "{args:?}");
    }
    assert_eq!(out(&run(&["--version"])), concat!("fourseven ", env!("CARGO_PKG_VERSION"), "\n"));
    for command in ["run", "check"] {
        assert!(out(&run(&[command, "--help"])).contains("Examples:"), "{command}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_to_do() {
    for (args, wants) in [
        (&["chekc"][..], "'check'"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["check"], "<FILE>"),
        (&["check", "a.toml", "b.toml"], "b.toml"),
        (&["run", "--bakend", "10.47.2.2:80"], "'--backend'"),
        (&["run", "--vip"], "a value is required"),
        (&["run"], "fourseven run -c"),
        (&["run", "--json"], "fourseven run -c"),
        (&["run", "-c", "full.toml", "--vip", "tcp/10.47.0.1:80"], "cannot be used with"),
        (&["run", "-c", "full.toml", "--backend", "10.47.2.2:80"], "cannot be used with"),
        (&["run", "-c", "full.toml", "--io", "plain"], "cannot be used with"),
        (&["run", "-c", "full.toml", "--queues", "2"], "cannot be used with"),
        (&["run", "-c", "full.toml", "-c", "least.toml"], "cannot be used multiple times"),
        (&["run", "-c", "no-such-file.toml"], "cannot read no-such-file.toml"),
        (&["check", "no-such-file.toml"], "No such file"),
        (&["check", "."], "is a directory"),
        (&["check", "/dev/zero"], "4 MiB"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}\n{}", err(&output));
        assert!(err(&output).contains(wants), "{args:?}\n{}", err(&output));
        assert_eq!(out(&output), "", "{args:?}");
    }
}

#[test]
fn every_wrong_flag_is_named_and_shown_in_the_line_that_was_given() {
    let good = ["--vip", "tcp/10.47.0.1:80", "--backend", "10.47.2.2:8080"];
    for (flags, message, help) in [
        (&["--vip", "10.47.0.2:80"][..], "does not say which protocol", "tcp/10.47.0.2:80"),
        (&["--vip", "tcp/10.47.0.2"], "has no port", "10.47.0.2:8080"),
        (&["--vip", "tcp/10.47.0.1:80"], "is there twice", "leave one out"),
        (&["--vip", "tcp/[fd47::1]:80"], "none of them is IPv6", "add an IPv6 backend"),
        (&["--backend", "10.47.2.2"], "has no port", "10.47.2.2:8080"),
        (&["--backend", "web2:8080"], "is a name", "getent hosts web2"),
        (&["--backend", "10.47.2.2:8080"], "is there twice", "larger weight"),
        (&["--backend", "10.47.0.1:8080"], "the address of a VIP", "an address of its own"),
        (&["--backend", "10.47.2.3:8080*0"], "weight cannot be 0", "drain"),
        (&["--backend", "10.47.2.3:8080*99999"], "weight cannot be 99999", "65535"),
        (&["--backend", "10.47.2.3:8080*two"], "`two` is not a number", "10.47.2.3:8080*2"),
        (&["--backend", "10.47.2.3:8080*"], "is not a number", "10.47.2.3:8080*2"),
        (&["--tls", "auto"], "`--tls` is for layer 7", "add `--mode l7`"),
        (&["--upstreams", "new"], "`--upstreams` is for layer 7", "add `--mode l7`"),
        (&["--mode", "l4", "--tls", "auto"], "this service is for layer 4", "write `--mode l7`"),
        (&["--mode", "l7", "--nat", "full"], "`--nat` is for layer 4", "there are two connections"),
        (&["--mode", "l7", "--local", "10.47.3.0/24"], "`--local` is for layer 4", "leave it out"),
        (&["--mode", "l7", "--vip", "udp/10.47.0.1:53"], "cannot be balanced at layer 7", "`--mode l4`"),
        (&["--mode", "l7", "--tls", "site.pem"], "not a chain and its key", "`--tls CHAIN,KEY`"),
        (&["--mode", "l7", "--tls", "no.pem,no.key"], "there is no file `no.key`", "a PEM file"),
        (&["--mode", "l7", "--tls", "auto", "--tls", "a,b"], "`auto` stands alone", "or the others"),
        (&["--mode", "l7", "--tls", ",b"], "the name of a file is missing", "a PEM file"),
        (&["--mode", "l7", "--upstreams", "keep"], "`--upstreams` cannot be `keep`", "pool, new"),
        (&["--mode", "l5"], "`--mode` cannot be `l5`", "l4"),
        (&["--nat", "snat"], "`--nat` cannot be `snat`", "full, dnat"),
        (&["--scheduler", "wr"], "`--scheduler` cannot be `wr`", "did you mean"),
        (&["--local", "10.47.3.1/24"], "bits set", "10.47.3.0/24"),
        (&["--local", "10.47.0.0/24"], "the VIP 10.47.0.1 is inside", "full NAT sends from"),
        (&["--local", "10.47.2.0/24"], "backend 10.47.2.2 is inside", "full NAT sends from"),
        (&["--local", "fd47:3::/64"], "needs an IPv4 prefix in `--local`", "`--nat dnat`"),
        (&["--io", "fast"], "`--io` cannot be `fast`", "auto, offload, plain"),
        (&["--queues", "0"], "`--queues` cannot be 0", "from 1 to 64"),
        (&["--queues", "65"], "`--queues` cannot be 65", "from 1 to 64"),
        (&["--queues", "two"], "`--queues` must be a number", "--queues 2"),
        (&["--queues", "2", "--io", "plain"], "a plain device has one queue", "`--queues 1`"),
        (&["--tun", "a-name-that-is-too-long"], "at most 15", "shorter"),
        (&["--tun", "a/b"], "not a name for a device", "letters"),
    ] {
        let args: Vec<_> = ["run"].into_iter().chain(good).chain(flags.iter().copied()).collect();
        let output = run(&args);
        let told = err(&output);
        assert_eq!(output.status.code(), Some(2), "{flags:?}\n{told}");
        assert!(told.contains(message), "{flags:?} lacks `{message}`:\n{told}");
        assert!(told.contains(help), "{flags:?} lacks `{help}`:\n{told}");
        assert!(told.contains("[command line:1:"), "{flags:?} has no place:\n{told}");
        assert!(told.contains("\n 1 | fourseven run "), "{flags:?} does not show the line:\n{told}");
    }
    for (args, message) in [
        (&["run", "--vip", "tcp/10.47.0.1:80"][..], "`--backend 10.47.2.2:8080`"),
        (&["run", "--backend", "10.47.2.2:80"], "`--vip tcp/10.47.0.1:80`"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(message), "{}", err(&output));
    }
}

#[test]
fn a_good_file_is_fine_and_its_print_checks_clean_again() {
    for file in ["full.toml", "least.toml"] {
        let output = run(&["check", file]);
        assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()), "{file}");
        assert!(out(&output).starts_with(&format!("{file}: fine (")), "{}", out(&output));

        let printed = run(&["check", "--print", file]);
        let mut again = fourseven(&["check", "--print", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        again.stdin.take().unwrap().write_all(&printed.stdout).unwrap();
        let again = again.wait_with_output().unwrap();
        assert_eq!((again.status.code(), err(&again)), (Some(0), String::new()), "{file}");
        assert_eq!(out(&again), out(&printed), "{file}");
    }
}

#[test]
fn run_prints_the_file_that_its_flags_mean() {
    let args = ["run", "--print-config", "--vip", "udp/10.47.0.1:53", "--backend", "10.47.2.2:53*2"];
    let output = run(&[&args[..], &["--scheduler", "wrr", "--no-configure"]].concat());
    assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()));
    for line in [
        "listen    = [\"udp/10.47.0.1:53\"]",
        "    { address = \"10.47.2.2:53\", weight = 2 },",
        "configure = false",
        "local     = [\"10.47.3.0/24\"]",
    ] {
        assert!(out(&output).lines().any(|printed| printed == line), "{line}\n{}", out(&output));
    }
}

#[test]
fn warnings_do_not_make_it_fail() {
    let output = run(&["check", "../broken/timeouts-below-floor.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(err(&output).contains("RFC 5382") && out(&output).contains("fine"));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    for args in [&[][..], &["--help"], &["check", "--print", "full.toml"], &["check", "full.toml"]] {
        let mut child = fourseven(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{args:?}");
    }
    // Nor is a stderr that is closed, when there are mistakes to tell of.
    let mut child = fourseven(&["check", "../broken/many.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = fourseven(&["check", "full.toml"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("cannot write to stdout"), "{}", err(&output));
}

#[test]
fn a_filter_that_is_none_is_told_of_and_not_used() {
    let output = fourseven(&["check", "full.toml"]).env("RUST_LOG", "fourseven=loud=1").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(err(&output).contains("RUST_LOG"), "{}", err(&output));
}
