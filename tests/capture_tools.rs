//! Captures and other people's programs: tshark and tcpdump find in a file what our reader finds, filters mean what they
//! mean to tcpdump, and what the lab writes opens in both without a complaint.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use fourseven::capture::{Direction, Filter, Reader};
use support::{has, root, skip_or_fail};

fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has(program));
    if let Some(program) = missing {
        skip_or_fail(&format!("{program} is not installed"));
    }
    missing.is_none()
}

/// The captures that other programs have written.
fn captures() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("pcaps/real")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 30);
    files
}

/// What a program writes to stdout. What it says of oddities in a capture is not of interest.
fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

/// Lines of fields as tshark finds them, without name look-ups and with all checksums looked at.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let file = file.to_str().unwrap();
    let mut arguments = vec!["-n", "-r", file, "-T", "fields"];
    for check in ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        arguments.extend(["-o", check]);
    }
    if !filter.is_empty() {
        arguments.extend(["-Y", filter]);
    }
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let text = String::from_utf8(output("tshark", &arguments)).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn tshark_finds_the_packets_that_we_find() {
    if !have(&["tshark"]) {
        return;
    }
    for file in captures() {
        let theirs = tshark(&file, "", &["frame.number", "frame.time_epoch", "frame.cap_len", "frame.len"]);
        let mut reader = Reader::new(File::open(&file).unwrap()).unwrap();
        let mut ours = Vec::new();
        while let Some(packet) = reader.read().unwrap() {
            let time = packet.time.unwrap().to_string();
            let lengths = [packet.bytes.len().to_string(), packet.original_length.to_string()];
            ours.push([&[packet.number.to_string(), time][..], &lengths].concat());
        }
        assert_eq!(ours, theirs, "{}", file.display());
    }
}

/// The IP packets of a capture: by their place, or as they are.
fn ip_packets(bytes: impl std::io::Read) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.read().unwrap() {
        packets.extend(packet.ip().ok().filter(|ip| ip.tags == 0).map(|ip| ip.bytes.to_vec()));
    }
    packets
}

/// The IP packets that pass a filter of tcpdump's.
fn tcpdump(file: &Path, words: &str) -> Vec<Vec<u8>> {
    let arguments = ["-n", "-r", file.to_str().unwrap(), "-w", "-", words];
    let output = Command::new("tcpdump").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It does not even try where no packet of the link type could pass.
    if said.contains("expression rejects all packets") {
        return Vec::new();
    }
    assert!(output.status.success(), "{words}: {said}");
    ip_packets(&output.stdout[..])
}

#[test]
fn filters_mean_what_they_mean_to_tcpdump() {
    const FILTERS: &[&str] = &[
        "ip",
        "ip6",
        "tcp",
        "udp",
        "icmp",
        "icmp6",
        "not tcp",
        "not (tcp or udp)",
        "port 80",
        "not port 80",
        "tcp port 80",
        "udp port 53 or 443",
        "src port 80",
        "dst port 80 or src port 443",
        "src and dst portrange 1000-65535",
        "portrange 1-1024",
        "tcp dst portrange 400-9000",
        "host 192.168.0.1 or host 10.0.0.1",
        "src net 192.168.0.0/16",
        "dst net 10",
        "net 192.168 and not icmp",
        "src or dst net 192.168.0.0/16",
        "net 10.0.0.0 mask 255.0.0.0",
        "net 2001::/16",
        "src net fe80::/10",
        "ip6 and not net ::/0",
        "proto 17",
        "ip proto 6",
        "ip6 proto 58",
        "ip6 proto 44",
        "tcp or udp and port 80",
        "icmp or (udp and portrange 30000-65535)",
        "! tcp && ! udp",
    ];
    if !have(&["tcpdump"]) {
        return;
    }
    let mut passed = BTreeMap::new();
    for file in captures() {
        let all = ip_packets(File::open(&file).unwrap());
        if all.is_empty() {
            continue;
        }
        for words in FILTERS {
            let filter: Filter = words.parse().unwrap_or_else(|error| panic!("{words}: {error}"));
            let ours: Vec<_> = all.iter().filter(|packet| filter.passes(packet)).cloned().collect();
            let theirs = tcpdump(&file, words);
            assert_eq!(ours.len(), theirs.len(), "{}: {words}", file.display());
            // libpcap cuts packets at the snap length that the file claims, even where there is more of them.
            let same = ours.iter().zip(&theirs).all(|(ours, theirs)| ours.starts_with(theirs));
            assert!(same, "{}: {words}", file.display());
            *passed.entry(*words).or_insert(0) += ours.len();
        }
    }
    let never: Vec<_> = passed.iter().filter(|(_, count)| **count == 0).map(|(words, _)| *words).collect();
    assert_eq!(never, ["ip6 and not net ::/0"], "a filter that nothing passes compares nothing");
}

#[test]
fn what_the_lab_writes_opens_in_tshark_and_tcpdump_and_tells_what_was_decided() {
    if !have(&["tshark", "tcpdump"]) {
        return;
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab.pcapng");
    let file_name = file.to_str().unwrap();
    let lab = Command::new(env!("CARGO_BIN_EXE_fourseven"))
        .args(["lab", "--json", "--secrets", "-w", file_name])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&lab.stderr);
    if !lab.status.success() && said.contains("/dev/net/tun") {
        return skip_or_fail(&said);
    }
    assert!(lab.status.success(), "{said}");
    let story: serde_json::Value = serde_json::from_slice(&lab.stdout).unwrap();

    let mut reader = Reader::new(File::open(&file).unwrap()).unwrap();
    let (mut sights, mut came, mut originated, mut ids) = (0, 0, 0, BTreeSet::new());
    let mut by_verdict = BTreeMap::<String, u64>::new();
    while let Some(packet) = reader.read().unwrap() {
        assert!(packet.ip().is_ok(), "packet {}", packet.number);
        sights += 1;
        ids.insert(packet.id.unwrap());
        if packet.direction == Some(Direction::Inbound) {
            came += 1;
            let verdict = packet.comment.unwrap().split(' ').next().unwrap().to_owned();
            *by_verdict.entry(verdict).or_default() += 1;
        } else if packet.comment.unwrap().starts_with("verdict=originated") {
            originated += 1;
        }
    }
    assert_eq!(reader.notes().first, None);
    // Each packet that the balancer has counted is there once.
    let packets = &story["balancer"]["packets"];
    assert_eq!(packets["received"], came);
    for verdict in ["forwarded", "answered", "delivered", "dropped"] {
        assert_eq!(packets[verdict], by_verdict[&format!("verdict={verdict}")], "{verdict}");
    }
    assert_eq!(ids.len() as u64, came + originated);

    let lines = output("tcpdump", &["-n", "-r", file_name]);
    assert_eq!(String::from_utf8_lossy(&lines).lines().count(), sights);
    let seen = tshark(&file, "", &["frame.packet_id", "frame.interface_name", "frame.comment", "ip.dst"]);
    assert_eq!(seen.len(), sights);
    // What an ICMP error quotes may never have been finished; all else is right.
    let wrong = "ip.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0 \
                 || ((tcp.checksum.status == 0 || udp.checksum.status == 0) && !icmp && !icmpv6) || _ws.malformed";
    assert_eq!(tshark(&file, wrong, &["frame.number"]), Vec::<Vec<String>>::new());
    // The first packet of a flow, on both sides.
    let opened =
        seen.iter().find(|line| line[2].contains("reason=new_flow") && line[3] == "10.47.0.1").unwrap();
    let both =
        tshark(&file, &format!("frame.packet_id == {}", opened[0]), &["frame.interface_name", "ip.dst"]);
    assert_eq!(both, [["clients", "10.47.0.1"], ["backends", "10.47.2.2"]]);
    for words in ["why=rr", "state=none>opening", "backend=10.47.2.2:8080", "rewrote=source:10.47.1.2:"] {
        assert!(opened[2].contains(words), "{}", opened[2]);
    }
    // What was said over TLS at layer 7.
    let requests = tshark(&file, "tls && http.request", &["http.request.method", "http.request.uri"]);
    assert!(requests.iter().any(|request| *request == ["GET", "/api/users"]), "{requests:?}");
    // Names.
    let named = output("tshark", &["-N", "n", "-r", file_name, "-c", "20"]);
    assert!(String::from_utf8_lossy(&named).contains("backend-1"));
}
