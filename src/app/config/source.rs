//! What the configuration was written in: the text, and where its lines are.
//!
//! Everything that is said about a configuration points into a [`Source`]: a file, or the command
//! line, which is a source like any other. It shows itself to miette, with three cares that
//! miette's own sources do not take: columns count characters and not bytes, a line that is a
//! megabyte long is shown around the place that matters, and a control character in a file
//! does not reach the terminal.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{self, Path, PathBuf};

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::mistake::Mistake;

/// A place in a source, in bytes.
pub type Span = Range<usize>;

/// The longest configuration that is read. Twice a full one: 65,535 listens and as many backends.
pub const MAX_BYTES: u64 = 4 << 20;

/// Lines longer than this, in bytes, are shown in part.
const LONG_LINE: usize = 160;
/// How much of a long line is shown on each side of a place.
const AROUND: usize = 40;

/// Why a file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system said no.
    #[error("cannot read {name}: {cause}")]
    Io {
        /// The file.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A directory was named.
    #[error("{name} is a directory; name the file in it")]
    Directory {
        /// The directory.
        name: String,
    },
    /// More than 4 MiB.
    #[error("{name} is larger than 4 MiB, which is the most that a configuration may have")]
    TooLarge {
        /// The file.
        name: String,
    },
}

/// A text with a name.
#[derive(Debug)]
pub struct Source {
    name: String,
    /// Where files that it names are looked for.
    folder: PathBuf,
    text: String,
    /// The text as it may be shown: control characters replaced, byte for byte in the same places,
    /// and a last line that has its end.
    shown: String,
    /// Where each line starts.
    lines: Vec<usize>,
    /// Where the last word ends.
    end: usize,
}

impl Source {
    /// A text that is in memory already.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
            .collect();
        let mut shown = printable(&text);
        if !shown.ends_with('\n') {
            shown.push('\n');
        }
        Self { name: name.into(), folder: PathBuf::new(), shown, end: text.trim_end().len(), text, lines }
    }

    /// Reads a file, or standard input where the path is `-`. Bytes that are not UTF-8 are a
    /// mistake with a place, as any other.
    ///
    /// # Errors
    /// When there is nothing to point into: the file cannot be read, or is too large.
    pub fn read(path: &Path) -> Result<(Self, Option<Mistake>), ReadError> {
        let name = if path == "-" { "standard input".to_owned() } else { printable(&path.to_string_lossy()) };
        let bytes = match slurp(path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::IsADirectory => {
                return Err(ReadError::Directory { name });
            }
            Err(cause) => return Err(ReadError::Io { name, cause }),
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ReadError::TooLarge { name });
        }
        let (source, mistake) = Self::from_bytes(name, &bytes);
        let folder = if path == "-" { None } else { path.parent() };
        Ok((source.in_folder(folder.unwrap_or(Path::new(""))), mistake))
    }

    /// The same, with files that it names looked for in this folder. The whole path of that is kept, so
    /// that a configuration which is printed can be put anywhere.
    #[must_use]
    pub fn in_folder(self, folder: &Path) -> Self {
        // Of the empty path there is no absolute form; what is beside `.` is beside it.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: path::absolute(folder).unwrap_or_default(), ..self }
    }

    /// Where files that it names are looked for.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From bytes that need not be UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> (Self, Option<Mistake>) {
        // The lossy text agrees with the bytes up to the first that is wrong, so that its
        // place is the same in both.
        let source = Self::new(name, String::from_utf8_lossy(bytes));
        let mistake = std::str::from_utf8(bytes).err().map(|error| {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            Mistake::new(at..at, format!("this byte (0x{byte:02x}) is not UTF-8"))
                .help("a TOML file is UTF-8 text: save it as that")
        });
        (source, mistake)
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line that a byte is on, counted from 0.
    pub fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The bytes of a line in what is shown, with its end.
    fn line(&self, line: usize) -> Span {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        start..self.lines.get(line + 1).copied().unwrap_or(self.shown.len())
    }

    /// Where the words of a line end.
    fn line_end(&self, line: usize) -> usize {
        let line = self.line(line);
        let words = self.shown.get(line.clone()).unwrap_or_default();
        line.start + words.trim_end_matches(['\r', '\n']).len()
    }

    /// What can be underlined of a span: one line of it, and not too much of that. The end of
    /// the file is moved back to where there is something to see.
    pub fn visible(&self, span: &Span) -> Span {
        let start = self.floor(span.start.min(self.end));
        let line_end = self.line_end(self.line_of(start));
        let end = self.floor(span.end.min(line_end).min(start + LONG_LINE));
        start..end.max(start)
    }

    /// The nearest place at or before `at` that does not cut a character.
    fn floor(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at)
    }

    /// How many characters stand before this place on its line; a byte order mark is none.
    fn column(&self, at: usize) -> usize {
        let start = self.line(self.line_of(at)).start;
        let before = self.text.get(start..self.floor(at)).unwrap_or_default();
        before.trim_start_matches('\u{feff}').chars().count()
    }

    /// The part of the text to show for a span, and whether it fits.
    fn excerpt(&self, span: &Span, before: usize, after: usize) -> Option<Span> {
        let (first, last) = (self.line_of(span.start), self.line_of(span.end));
        let short = |line: usize| self.line(line).len() <= LONG_LINE;
        if !(first..=last).all(short) {
            // Only a part of one line can be cut out.
            let start = self.floor(span.start.saturating_sub(AROUND)).max(self.line(first).start);
            let end = self.floor((span.end + AROUND).min(self.line_end(first)));
            return (first == last && span.len() <= LONG_LINE).then_some(start..end);
        }
        // Where the file ends with a line's end, the empty line behind that is none.
        let end = self.line_of(self.text.len().saturating_sub(1));
        let from = (first.saturating_sub(before)..first).rev().take_while(|line| short(*line)).last();
        let to = (last + 1..=end.min(last + after)).take_while(|line| short(*line)).last();
        Some(self.line(from.unwrap_or(first)).start..self.line(to.unwrap_or(last)).end)
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let span = span.offset()..span.offset().saturating_add(span.len());
        if span.end > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        let part = self.excerpt(&span, before, after).ok_or(MietteError::OutOfBounds)?;
        let data = self.shown.get(part.clone()).ok_or(MietteError::OutOfBounds)?;
        // miette asks without context to learn line and column for its heading.
        let heading = before == 0 && after == 0;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            data.as_bytes(),
            (part.start, part.len()).into(),
            self.line_of(if heading { span.start } else { part.start }),
            if heading { self.column(span.start) } else { 0 },
            data.matches('\n').count(),
        )))
    }
}

/// Reads all of a file up to one byte more than is allowed.
fn slurp(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == "-" {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The text with everything replaced that would move a terminal's cursor, or turn its
/// writing round; each character by as many bytes as it has.
fn printable(text: &str) -> String {
    text.char_indices()
        .flat_map(|(at, c)| {
            let line_end = c == '\r' && text.as_bytes().get(at + 1) == Some(&b'\n');
            let (c, times) = match c {
                '\n' | '\t' => (c, 1),
                '\r' if line_end => (c, 1),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ('\u{fffd}', 1),
                c if c.is_control() => ('?', c.len_utf8()),
                c => (c, 1),
            };
            std::iter::repeat_n(c, times)
        })
        .collect()
}

/// A value of the user's in a message: in backquotes, not too long, and printable.
pub fn quoted(value: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String =
        printable(value).chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_every_character_in_its_place() {
        let text = "a\u{1b}[2J\u{85}é\u{202e}x\r\ny\rz";
        let shown = printable(text);
        assert_eq!(shown, "a?[2J??é\u{fffd}x\r\ny?z");
        assert_eq!(shown.len(), text.len());
    }

    #[test]
    fn columns_count_characters_and_no_byte_order_mark() {
        let source = Source::new("x", "\u{feff}é = 1\nöö = 2");
        assert_eq!(source.column(3), 0);
        assert_eq!(source.column(source.text().find('1').unwrap()), 4);
        assert_eq!((source.line_of(source.text().len()), source.column(source.text().len())), (1, 6));
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("a = 1\nb = \"{}X{}\"\nc = 2", "é".repeat(5000), "é".repeat(5000));
        let source = Source::new("x", text);
        let at = source.text().find('X').unwrap();
        let part = source.excerpt(&(at..at + 1), 1, 1).unwrap();
        assert!(part.contains(&at) && part.len() <= 1 + 2 * AROUND, "{part:?}");
        assert_eq!(source.excerpt(&(7..9000), 1, 1), None);
    }

    #[test]
    fn the_end_of_a_file_is_where_its_last_word_ends() {
        let source = Source::new("x", "a = [\n\n\n");
        assert_eq!(source.visible(&(8..8)), 5..5);
    }
}
