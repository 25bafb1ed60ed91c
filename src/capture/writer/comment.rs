//! The decision in words: `key=value`, separated by blanks, so that a display filter can look for any of them.
//!
//! ```text
//!   verdict=forwarded reason=new_flow flow=0.17.0 service=203.0.113.1:80 backend=10.0.0.2:8080 why=rr
//!   state=none>opening rewrote=source:198.51.100.9:40000>10.0.0.1:1024,destination:203.0.113.1:80>10.0.0.2:8080,ttl:64>63
//! ```
//!
//! What was rewritten is what differs between the two looks at the packet, whoever has done it.

use std::fmt::{Display, Write as _};

use super::{Picture, Record};
use crate::capture::words;
use crate::datapath::Verdict;
use crate::packet::{ChecksumState, Transport, View};

pub(super) fn write(out: &mut String, record: &Record<'_>) {
    let decision = &record.decision;
    match decision.verdict {
        None => out.push_str("verdict=originated"),
        Some(Verdict::Held) => out.push_str("verdict=held"),
        Some(Verdict::HandOver(worker)) => {
            let _ = write!(out, "verdict=handed_over worker={worker}");
        }
        Some(verdict) => {
            if let Some((outcome, reason)) = verdict.outcome() {
                out.push_str("verdict=");
                out.push_str(outcome.word());
                out.push_str(" reason=");
                out.push_str(reason.word());
            }
        }
    }
    word(out, "flow", decision.flow);
    word(out, "service", decision.service);
    word(out, "backend", decision.backend);
    word(out, "why", decision.why);
    if decision.before.is_some() || decision.after.is_some() {
        out.push_str(" state=");
        out.push_str(decision.before.unwrap_or("none"));
        out.push('>');
        out.push_str(decision.after.unwrap_or("none"));
    }
    if let (Some(Verdict::Forward(_)), Some(came), Some(left)) =
        (decision.verdict, &record.came, &record.left)
    {
        rewritten(out, came, left);
    }
    if let Some(picture) = record.left.as_ref().or(record.came.as_ref()) {
        if let Some(segments) = picture.offload.segments {
            out.push(' ');
            words::write_segments(out, segments);
        }
        let unfinished = matches!(picture.offload.checksum, ChecksumState::Partial { .. })
            && picture.bytes.len() < picture.original_length as usize;
        if unfinished {
            out.push_str(" checksum=unfinished");
        }
    }
    if let Some(more) = &decision.more {
        out.push(' ');
        out.push_str(more);
    }
}

fn word(out: &mut String, key: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        let _ = write!(out, " {key}={value}");
    }
}

/// What is different in the packet that left.
fn rewritten(out: &mut String, came: &Picture<'_>, left: &Picture<'_>) {
    let (Ok(was), Ok(is)) = (View::of(came.bytes), View::of(left.bytes)) else { return };
    let mut list = List { out, any: false };
    match (was.tuple(), is.tuple()) {
        (Some(was), Some(is)) => {
            list.change("source", &was.source, &is.source);
            list.change("destination", &was.destination, &is.destination);
        }
        _ => {
            list.change("source", &was.source, &is.source);
            list.change("destination", &was.destination, &is.destination);
        }
    }
    list.change("ttl", &was.hops, &is.hops);
    let identification = |bytes: &[u8]| match bytes {
        [0x40..=0x4f, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    list.change("id", &identification(came.bytes), &identification(left.bytes));
    if matches!(was.transport, Transport::Icmp { .. }) {
        // Behind the type, code, checksum and the four bytes that follow.
        let [was, is] = [(came, &was), (left, &is)]
            .map(|(picture, view)| picture.bytes.get(view.transport_at.saturating_add(8)..));
        if was != is {
            list.entry("quote");
        }
    }
}

/// The changes, in one word.
struct List<'a> {
    out: &'a mut String,
    any: bool,
}

impl List<'_> {
    fn change<T: PartialEq + Display>(&mut self, what: &str, was: &T, is: &T) {
        if was != is {
            self.entry(what);
            let _ = write!(self.out, ":{was}>{is}");
        }
    }

    fn entry(&mut self, what: &str) {
        self.out.push_str(if self.any { "," } else { " rewrote=" });
        self.any = true;
        self.out.push_str(what);
    }
}
