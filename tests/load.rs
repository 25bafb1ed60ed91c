//! `fourseven lab serve` and `lab load` as scripts use them: over loopback, by exit status and JSON.

#![expect(clippy::disallowed_methods, reason = "the world is waited for in real time")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const FOURSEVEN: &str = env!("CARGO_BIN_EXE_fourseven");

/// A server that ends with this value.
struct Server(Child);

impl Server {
    fn start(arguments: &[&str], at: &[SocketAddr]) -> Self {
        let child = Command::new(FOURSEVEN).args(["lab", "serve"]).args(arguments).spawn().unwrap();
        let server = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        for at in at {
            while TcpStream::connect(at).is_err() {
                assert!(Instant::now() < deadline, "nothing listens on {at}");
                sleep(Duration::from_millis(20));
            }
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn load(arguments: &[&str]) -> Output {
    Command::new(FOURSEVEN).args(["lab", "load"]).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_load_says_in_json_what_scripts_read() {
    let (http, https) = (free(), free());
    let _server = Server::start(
        &["--http", &http.to_string(), "--https", &https.to_string(), "--threads", "2"],
        &[http, https],
    );
    for (name, target, more) in [
        ("http", format!("http://{http}/bytes/100"), &[][..]),
        ("http-new", format!("http://{http}/"), &["--kind", "http-new"]),
        ("http", format!("https://{https}/bytes/100"), &["--http2", "--streams", "3"]),
        ("http", format!("https://{https}/"), &["--rate", "50"]),
        ("bulk", format!("https://{https}/bytes/100000"), &["--kind", "bulk"]),
        ("handshake", format!("https://{https}/"), &["--kind", "handshake"]),
        ("handshake-resumed", format!("https://{https}/"), &["--kind", "handshake-resumed"]),
        ("idle", format!("https://{https}/"), &["--kind", "idle"]),
    ] {
        let shared = [&target, "--connections", "2", "--duration", "300ms", "--json"];
        let output = load(&[&shared[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{name} {target}: {output:?}");
        let json = json(&output);
        assert_eq!(json["kind"], name, "{json}");
        assert_eq!((&json["errors"], &json["wrong"]), (&0.into(), &0.into()), "{name} {target}: {json}");
        for figure in ["done", "per_second", "p50_us", "p90_us", "p99_us", "p999_us"] {
            assert!(json[figure].as_f64().unwrap() > 0.0, "{name} {target}: {figure} in {json}");
        }
    }
}

#[test]
fn wrong_answers_make_a_load_fail() {
    let http = free();
    let _server = Server::start(&["--http", &http.to_string()], &[http]);
    let target = format!("http://{http}/status/503");
    let output = load(&[&target, "--connections", "1", "--duration", "200ms", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json = json(&output);
    assert!(json["wrong"].as_u64().unwrap() > 0 && json["first_wrong"] == "status 503", "{json}");
}

#[test]
fn a_load_that_there_cannot_be_is_wrong_usage() {
    for (arguments, why) in [
        (&["tcp/127.0.0.1:1", "--kind", "http"][..], "http(s)://"),
        (&["http://127.0.0.1:1/", "--kind", "handshake"], "https://"),
        (&["http://127.0.0.1:1/", "--streams", "2"], "--http2"),
        (&["http://127.0.0.1:1/", "--rate", "0"], "a rate"),
        (&["http://127.0.0.1:1/", "--kind", "fast"], "handshake-resumed"),
        (&["http://127.0.0.1:1/", "--hold", "--duration", "1s"], "--hold"),
    ] {
        let output = load(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
}

#[test]
fn connections_that_are_held_are_let_go_on_a_signal_and_told_of() {
    let https = free();
    let mut server = Some(Server::start(&["--https", &https.to_string()], &[https]));
    for gone in [false, true] {
        let mut child = Command::new(FOURSEVEN)
            .args(["lab", "load", &format!("https://{https}/"), "--kind", "idle", "--connections", "50"])
            .args(["--hold", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "holding 50 connections\n");
        if gone {
            server.take();
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(json["done"], 50, "{json}");
        assert_eq!(json["errors"], if gone { 50 } else { 0 }, "{json}");
    }
}

#[test]
fn a_number_of_connections_that_cannot_be_is_told_of_and_says_why() {
    for (number, why) in
        [("0", "at least 1"), ("many", "a whole number"), ("100000", "100000 connections are too many")]
    {
        let output = load(&["http://127.0.0.1:1/", "--connections", number]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(why), "{number}: {said}");
    }
}
