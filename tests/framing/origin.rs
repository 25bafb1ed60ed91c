//! A strict origin: what it reads has one meaning, or is an error.
//!
//! It is no part of the program and shares nothing with it: the point is another reader.

use std::collections::HashMap;

/// A request, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `METHOD target`.
    pub line: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: String,
}

/// Fields of one hop only, which must not come through; `connection` and `upgrade` may be ours.
const HOP_BY_HOP: [&str; 5] =
    ["proxy-connection", "keep-alive", "http2-settings", "proxy-authenticate", "proxy-authorization-info"];

/// Fields that there may be one of.
const ONCE: [&str; 5] = ["host", "content-length", "transfer-encoding", "upgrade", "te"];

/// Reads whole requests to the last byte.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (seen, rest) =
            one(bytes).map_err(|why| format!("{why} in {:?}", String::from_utf8_lossy(bytes)))?;
        all.push(seen);
        bytes = rest;
    }
    Ok(all)
}

/// Whether a whole request is there; how long it is.
pub fn whole(bytes: &[u8]) -> Option<usize> {
    one(bytes).ok().map(|(_, rest)| bytes.len() - rest.len())
}

fn one(bytes: &[u8]) -> Result<(Seen, &[u8]), String> {
    let (line, mut rest) = cut_line(bytes)?;
    let line = text(line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(format!("a request line {line:?}"));
    };
    if method.is_empty() || !method.bytes().all(token) {
        return Err(format!("a method {method:?}"));
    }
    if !(target.starts_with('/') || target == "*")
        || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#')
    {
        return Err(format!("a target {target:?}"));
    }
    let mut fields = Vec::new();
    let mut named: HashMap<String, String> = HashMap::new();
    loop {
        let (line, behind) = cut_line(rest)?;
        rest = behind;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        if ONCE.contains(&name.as_str()) && named.contains_key(&name) {
            return Err(format!("{name} twice"));
        }
        if HOP_BY_HOP.contains(&name.as_str()) {
            return Err(format!("{name}, which is of another hop"));
        }
        named.insert(name.clone(), value.clone());
        fields.push((name, value));
    }
    if named.get("host").is_none_or(String::is_empty) {
        return Err("no host".to_owned());
    }
    for option in named.get("connection").into_iter().flat_map(|value| value.split(',')) {
        if !["close", "keep-alive", "upgrade", "te"].contains(&option.trim().to_ascii_lowercase().as_str()) {
            return Err(format!("a connection option {option:?}"));
        }
    }
    if named.get("te").is_some_and(|te| te != "trailers") {
        return Err("a te other than trailers".to_owned());
    }
    let (body, rest) = match (named.get("content-length"), named.get("transfer-encoding")) {
        (Some(_), Some(_)) => return Err("both lengths".to_owned()),
        (None, None) => (Vec::new(), rest),
        (Some(length), None) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("a length {length:?}"));
            }
            let length: usize = length.parse().map_err(|_| "a length that is too long".to_owned())?;
            let body = rest.get(..length).ok_or("half a body")?;
            (body.to_vec(), &rest[length..])
        }
        (None, Some(coding)) if coding == "chunked" => chunks(rest)?,
        (None, Some(coding)) => return Err(format!("a coding {coding:?}")),
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok((Seen { line: format!("{method} {target}"), fields, body }, rest))
}

/// A line that ends in CR LF and has neither in it.
fn cut_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("half a line")?;
    let line = bytes[..end].strip_suffix(b"\r").ok_or("LF alone")?;
    if line.contains(&b'\r') {
        return Err("CR alone".to_owned());
    }
    Ok((line, &bytes[end + 1..]))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "bytes that are no text".to_owned())
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn field(line: &[u8]) -> Result<(String, String), String> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| token(*byte)) {
        return Err(format!("a field's name {:?}", String::from_utf8_lossy(name)));
    }
    if value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
        return Err(format!("a field's value {:?}", String::from_utf8_lossy(value)));
    }
    let name = text(name)?.to_ascii_lowercase();
    Ok((name, String::from_utf8_lossy(value).trim().to_owned()))
}

fn chunks(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let mut body = Vec::new();
    loop {
        let (line, behind) = cut_line(rest)?;
        let size = text(line)?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a chunk's size {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk that is too long".to_owned())?;
        rest = behind;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size).ok_or("half a chunk")?);
        rest = rest[size..].strip_prefix(b"\r\n").ok_or("a chunk without an end")?;
    }
    loop {
        let (line, behind) = cut_line(rest)?;
        rest = behind;
        if line.is_empty() {
            return Ok((body, rest));
        }
        let (name, _) = field(line)?;
        if ["content-length", "transfer-encoding", "host"].contains(&name.as_str()) {
            return Err(format!("{name} in a trailer"));
        }
    }
}
