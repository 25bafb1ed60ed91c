//! Words in comments that mean something when they are read again.

use crate::packet::{SegmentKind, Segments};

/// What a section's header names as its writer, before the version.
pub(super) const APPLICATION: &str = "fourseven";

/// How a large segment is to be cut, as the word for it: `gso=tcp4/1448`, and `/cwr` where the segments carry CWR.
pub(super) fn write_segments(out: &mut String, segments: Segments) {
    use std::fmt::Write as _;
    let kind = match segments.kind {
        SegmentKind::TcpV4 => "tcp4",
        SegmentKind::TcpV6 => "tcp6",
        SegmentKind::Udp => "udp",
    };
    let cwr = if segments.ecn { "/cwr" } else { "" };
    let _ = write!(out, "gso={kind}/{}{cwr}", segments.size);
}

/// The same out of a comment.
pub(super) fn segments(comment: &str) -> Option<Segments> {
    let word = comment.split(' ').find_map(|word| word.strip_prefix("gso="))?;
    let mut parts = word.split('/');
    let kind = match parts.next()? {
        "tcp4" => SegmentKind::TcpV4,
        "tcp6" => SegmentKind::TcpV6,
        "udp" => SegmentKind::Udp,
        _ => return None,
    };
    let size = parts.next()?.parse().ok().filter(|size| *size > 0)?;
    Some(Segments { kind, size, header_length: 0, ecn: parts.next() == Some("cwr") })
}
