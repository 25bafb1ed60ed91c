//! Words: one of a few, or a name.

use crate::app::config::mistake::Wrong;
use crate::app::config::reader::nearest;
use crate::app::config::source::quoted;

/// The longest name of a network device (`IFNAMSIZ` less its final zero).
const DEVICE_NAME: usize = 15;
/// The longest name of a service.
const SERVICE_NAME: usize = 64;
/// The longest name of a group; there is room for a service's name and more, since groups are named
/// after services where nobody named them.
const GROUP_NAME: usize = 96;

/// One of the words that there are.
pub fn one_of<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let help = match nearest(text, all.iter().copied()) {
        Some(near) => format!("did you mean {near}? There are {}", all.join(", ")),
        None => format!("write one of {}", all.join(", ")),
    };
    Err(Wrong::new(format!("{name} cannot be {}", quoted(text))).help(help))
}

/// The words alone.
pub fn words<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// A name for a network device.
pub fn device_name(text: &str) -> Result<String, Wrong> {
    let wrong = |message: String, help: &str| Err(Wrong::new(message).help(help));
    if text.is_empty() {
        return wrong("a device needs a name".to_owned(), "write one, such as fs0");
    }
    if text.len() > DEVICE_NAME {
        let message =
            format!("{} has {} bytes, and a device's name has at most 15", quoted(text), text.len());
        return wrong(message, "write a shorter one, such as fs0");
    }
    if text == "all" || text == "default" {
        let message = format!("{} stands for other devices in the kernel's settings", quoted(text));
        return wrong(message, "write another name, such as fs0");
    }
    if !plain(text) || text == "." || text == ".." {
        let message = format!("{} is not a name for a device", quoted(text));
        return wrong(message, "use letters, digits, `-`, `_` and `.`, such as fs0");
    }
    Ok(text.to_owned())
}

/// A name for a service; it stands in reports and counters.
pub fn service_name(text: &str) -> Result<String, Wrong> {
    name(text, "service", "web", SERVICE_NAME)
}

/// A name for a group of backends.
pub fn group_name(text: &str) -> Result<String, Wrong> {
    name(text, "group", "api", GROUP_NAME)
}

fn name(text: &str, what: &str, example: &str, most: usize) -> Result<String, Wrong> {
    let wrong = |message: String, help: String| Err(Wrong::new(message).help(help));
    if text.is_empty() {
        return wrong(format!("a {what} needs a name"), format!("write one, such as {example}"));
    }
    if text.len() > most {
        let message = format!("{} is longer than {most} bytes", quoted(text));
        return wrong(message, "write a shorter name".to_owned());
    }
    if !plain(text) {
        let message = format!("{} is not a name for a {what}", quoted(text));
        return wrong(message, format!("use letters, digits, `-`, `_` and `.`, such as {example}-1"));
    }
    Ok(text.to_owned())
}

/// Whether a name needs no quotes anywhere.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_need_quotes_are_refused() {
        assert!(device_name("fs0").is_ok() && device_name("a23456789012345").is_ok());
        for name in ["", "a234567890123456", "a/b", "a b", "..", "fs%d", "ü", "a:b", "a\"b", "all", "default"]
        {
            assert!(device_name(name).is_err(), "{name}");
        }
        assert!(service_name("web-1.example_x").is_ok());
        for name in ["", "a b", "ü", "a\"b", &"x".repeat(65)] {
            assert!(service_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_word_that_is_nearly_right_is_recognised() {
        let words = [("full", 1), ("dnat", 2)];
        assert_eq!(one_of("`nat`", "dnat", &words), Ok(2));
        assert!(one_of("`nat`", "Dnat", &words).unwrap_err().help.unwrap().contains("did you mean dnat"));
        assert!(one_of("`nat`", "masquerade", &words).unwrap_err().help.unwrap().contains("full, dnat"));
    }
}
