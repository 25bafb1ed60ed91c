//! What is not TOML at all, and what may still be said about the rest of such a file.

use std::collections::HashSet;

use toml::de::Error;

use super::mistake::{Mistake, Severity};
use super::source::{Source, Span, quoted};

/// Puts the parser's errors among the other mistakes.
///
/// The parser goes on behind an error with what it makes of the rest, and so some of what was
/// found there comes from the error alone: all on its line, and all that seems to be missing,
/// since it may be in what the parser skipped.
pub fn with_errors(source: &Source, errors: &[Error], mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let mut lines = HashSet::new();
    let mut all: Vec<Mistake> = errors
        .iter()
        .map(|error| (error, source.visible(&error.span().unwrap_or(0..0))))
        // One slip is often several errors to the parser; the first on a line is the one to mend.
        .filter(|(_, at)| lines.insert(source.line_of(at.start)))
        .map(|(error, at)| mistake(source, error, at))
        .collect();
    all.extend(mistakes.into_iter().filter(|mistake| {
        mistake.severity != Severity::Missing && !lines.contains(&source.line_of(mistake.at.start))
    }));
    all.sort_by_key(|mistake| (mistake.at.start, mistake.at.end));
    all
}

fn mistake(source: &Source, error: &Error, at: Span) -> Mistake {
    let written = source.text().get(at.clone()).unwrap_or_default();
    let message = error.message().trim_end_matches(", expected nothing");
    let bare = ["invalid boolean", "string values must be quoted"];
    if written.is_empty() && message.starts_with("string values must be quoted") {
        return Mistake::new(at, "this is not TOML: a value is missing")
            .help("write one behind the `=`: a number, true, false, or a string in quotes");
    }
    if bare.iter().any(|start| message.starts_with(start)) && !written.is_empty() {
        // The parser takes any word that starts like `true` or `false` for a try at one.
        return Mistake::new(at, format!("this is not TOML: {} stands without quotes", quoted(written)))
            .help(format!("write \"{written}\", or true or false if that is meant"));
    }
    let help = ADVICE.iter().find(|(start, _)| message.starts_with(start)).map(|(_, help)| *help);
    Mistake::new(at, format!("this is not TOML: {message}"))
        .help(help.unwrap_or("https://toml.io has the rules"))
}

/// What to write instead, for what people are most likely to get wrong, by how the parser's
/// messages start.
const ADVICE: [(&str, &str); 18] = [
    (
        "duplicate key",
        "a key, and a `[table]`, can be there once; put the values together, or start another `[[service]]`",
    ),
    ("key with no value", "write `key = value`"),
    ("unquoted keys cannot be empty", "write a key before the `=`"),
    ("invalid basic string", "close the string with the quote that it began with, on the same line"),
    ("invalid literal string", "close the string with the quote that it began with, on the same line"),
    ("unclosed table", "close the head of a table on its own line, as in `[tun]`"),
    ("unclosed array table", "close it with two brackets, as in `[[service]]`"),
    ("unclosed array", "close the list with `]`"),
    ("unclosed inline table", "close the table with `}`"),
    ("missing comma", "separate the items by commas"),
    ("extra comma", "leave out the comma"),
    ("unexpected leading zero", "write the number without the 0, or a string in quotes"),
    ("unexpected key or value", "start a new line for each key"),
    ("cannot recurse further", "no value needs to be so deep"),
    ("invalid float", "what is not a number needs quotes, as an address does: \"10.47.2.2:8080\""),
    ("invalid integer", "what is not a number needs quotes, as an address does: \"10.47.2.2:8080\""),
    ("invalid fraction", "what is not a number needs quotes, as an address does: \"10.47.2.2:8080\""),
    ("invalid date-time", "what is not a number needs quotes, as an address does: \"10.47.2.2:8080\""),
];
