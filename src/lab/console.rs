//! How the story is printed: plain lines, with a little colour on a terminal.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::clock;
use super::error::LabError;

/// Where the story goes.
pub struct Console {
    out: Box<dyn Write>,
    colour: Colour,
    started: Instant,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What a piece of text is, which says how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Not as the client would like it.
    Bad,
    /// Beside the point.
    Faint,
}

impl Console {
    /// Standard output, in colour if that is a terminal that wants it (<https://no-color.org>).
    pub fn stdout() -> Self {
        let unwanted = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = io::stdout().is_terminal() && !unwanted("NO_COLOR") && !dumb;
        Self::new(Box::new(io::stdout()), if colour { Colour::On } else { Colour::Off })
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self::new(Box::new(io::sink()), Colour::Off)
    }

    /// To a writer of one's own.
    pub fn new(out: Box<dyn Write>, colour: Colour) -> Self {
        Self { out, colour, started: clock::now() }
    }

    /// Writes a line, at once.
    ///
    /// # Errors
    ///
    /// Nobody reads it any more.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), LabError> {
        writeln!(self.out, "{}", text.to_string().trim_end())
            .and_then(|()| self.out.flush())
            .map_err(LabError::Output)
    }

    /// Writes an empty line and a heading with the time since the start.
    ///
    /// # Errors
    ///
    /// Nobody reads it any more.
    pub fn heading(&mut self, text: impl fmt::Display) -> Result<(), LabError> {
        let at = format!("{:.2} s", self.started.elapsed().as_secs_f64());
        let heading = self.paint(Look::Heading, text);
        let at = self.paint(Look::Faint, at);
        self.line(format_args!("\n{heading}  {at}"))
    }

    /// Text with its look.
    pub fn paint(&self, look: Look, text: impl fmt::Display) -> String {
        let code = match look {
            Look::Heading => "1",
            Look::Good => "32",
            Look::Bad => "33",
            Look::Faint => "2",
        };
        match self.colour {
            Colour::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Colour::Off => text.to_string(),
        }
    }

    /// How long ago this console was made.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Breaks a text into lines of at most `width` characters, at spaces.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if fits => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Joins items by commas, into lines of at most `width` characters, and breaks none.
pub fn list(items: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 3 + item.chars().count() <= width => {
                line.push_str(", ");
                line.push_str(item);
            }
            last => {
                if let Some(line) = last {
                    line.push(',');
                }
                lines.push(item.clone());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_nothing_is_lost() {
        assert_eq!(wrap("to be or not to be", 8), ["to be or", "not to", "be"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn items_of_a_list_stay_whole() {
        let items = ["1 a", "22 b", "3 c"].map(str::to_owned);
        assert_eq!(list(&items, 11), ["1 a, 22 b,", "3 c"]);
        assert_eq!(list(&items, 2), ["1 a,", "22 b,", "3 c"]);
        assert!(list(&[], 9).is_empty());
    }

    #[test]
    fn colour_only_where_it_is_on() {
        let plain = Console::silent().paint(Look::Bad, "x");
        let coloured = Console::new(Box::new(io::sink()), Colour::On).paint(Look::Bad, "x");
        assert_eq!((plain.as_str(), coloured.as_str()), ("x", "\x1b[33mx\x1b[0m"));
    }
}
