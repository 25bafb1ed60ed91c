//! Any bytes as a configuration: nothing panics, there is either a configuration or a mistake, each mistake has its place
//! in the text, and what is printed is read back as the same. No file is opened for it.

#![no_main]

use fourseven::app::config::{Look, Severity, Source, from_toml, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (source, mistake) = Source::from_bytes("fuzz.toml", bytes);
    let checked = from_toml(&source);
    let bad = checked.mistakes.iter().any(|mistake| mistake.severity != Severity::Warning);
    assert_eq!(checked.config.is_none(), bad);
    for mistake in mistake.iter().chain(&checked.mistakes) {
        assert!(mistake.at.start <= mistake.at.end && mistake.at.end <= source.text().len());
        assert!(mistake.help.is_some(), "{}", mistake.message);
    }
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN).is_empty(), checked.mistakes.is_empty());
    if let Some(config) = checked.config {
        let printed = config.to_string();
        let again = from_toml(&Source::new("printed.toml", printed.as_str())).config;
        assert_eq!(again.map(|again| format!("{again:?}")), Some(format!("{config:?}")), "{printed}");
    }
});
