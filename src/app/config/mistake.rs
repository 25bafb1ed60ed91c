//! What is wrong with a configuration, and how it is shown.
//!
//! A [`Mistake`] says what is wrong, where, and what to write instead. Whoever reads the
//! configuration collects them in [`Mistakes`] and goes on, so that one look finds all.

use std::fmt::{self, Write};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan};

use super::source::{Source, Span};

/// How many are shown in full. A file with more has one cause, and the first few show it.
pub(super) const MOST_SHOWN: usize = 100;

/// How much a mistake matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Like an error, but may be only the consequence of one: something is not there, and it
    /// may be in a line that could not be read.
    Missing,
    /// It can be used, and is worth a second look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in a sentence without its full stop.
    pub message: String,
    /// Where.
    pub at: Span,
    /// What to say at that place, where it needs a word.
    pub label: Option<String>,
    /// Other places that have to do with it.
    pub also: Vec<(Span, String)>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Mistake {
    /// Something that must be mended.
    pub fn new(at: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            at,
            label: None,
            also: Vec::new(),
            help: None,
        }
    }

    /// Something that is not there and must be.
    pub fn missing(at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Missing, ..Self::new(at, message) }
    }

    /// Something that is worth a second look.
    pub fn warning(at: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(at, message) }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds a word at the place.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, at: Span, label: impl Into<String>) -> Self {
        self.also.push((at, label.into()));
        self
    }
}

/// What is wrong with a value, before anybody knows where it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Wrong {
    /// Without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds what to write instead, where nothing better was said yet.
    #[must_use]
    pub fn help_or(self, help: &str) -> Self {
        Self { help: self.help.or_else(|| Some(help.to_owned())), ..self }
    }

    /// Says where.
    pub fn at(self, at: Span) -> Mistake {
        Mistake { help: self.help, ..Mistake::new(at, self.message) }
    }
}

/// All that has been found so far.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn add(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order of their places.
    pub fn into_sorted(mut self) -> Vec<Mistake> {
        self.0.sort_by_key(|mistake| (mistake.at.start, mistake.at.end));
        self.0
    }
}

/// How the terminal wants to be written to.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Draw with box characters.
    pub unicode: bool,
    /// Use colours.
    pub color: bool,
}

impl Look {
    /// For a file or a pipe: the same everywhere.
    pub const PLAIN: Self = Self { unicode: false, color: false };

    fn theme(self) -> GraphicalTheme {
        let mut theme = if self.unicode { GraphicalTheme::unicode() } else { GraphicalTheme::ascii() };
        if !self.color {
            theme.styles = GraphicalTheme::none().styles;
        }
        theme
    }
}

/// All mistakes as text, each with an excerpt of its source, and a last line that counts them.
/// Empty where there are none.
pub fn render(source: &Source, mistakes: &[Mistake], look: Look) -> String {
    let handler = GraphicalReportHandler::new_themed(look.theme()).with_wrap_lines(false);
    let mut text = String::new();
    for mistake in mistakes.iter().take(MOST_SHOWN) {
        // Writing to a string fails only where a label is outside its source, which
        // `Source::visible` prevents; the message alone is better than nothing.
        let before = text.len();
        if handler.render_report(&mut text, &Shown { mistake, source }).is_err() {
            text.truncate(before);
            text.push_str(&mistake.message);
        }
        text.push('\n');
    }
    if mistakes.is_empty() {
        return text;
    }
    if let Some(more) = mistakes.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "... and {more} more; mend these first");
    }
    let warnings = mistakes.iter().filter(|mistake| mistake.severity == Severity::Warning).count();
    let counts = [(mistakes.len() - warnings, "mistake"), (warnings, "warning")];
    let counts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).map(counted).collect();
    let _ = writeln!(text, "{}: {}", source.name(), counts.join(", "));
    text
}

/// `1 service`, `2 services`.
pub fn counted((count, what): (usize, &str)) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A mistake beside its source, which is what miette draws.
#[derive(Debug)]
struct Shown<'a> {
    mistake: &'a Mistake,
    source: &'a Source,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.mistake.severity {
            Severity::Error | Severity::Missing => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mistake.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |at: &Span, label: Option<String>| {
            let at = self.source.visible(at);
            (label, (at.start, at.len()))
        };
        let (text, place) = label(&self.mistake.at, self.mistake.label.clone());
        let first = LabeledSpan::new_primary_with_span(text, place);
        let also = self.mistake.also.iter().map(move |(at, text)| {
            let (text, place) = label(at, Some(text.clone()));
            LabeledSpan::new_with_span(text, place)
        });
        Some(Box::new(std::iter::once(first).chain(also)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_far_apart_are_both_shown() {
        let source = Source::new("x.toml", format!("a = 1\n{}a = 2\n{}", "#\n".repeat(50), "#\n".repeat(50)));
        let mistake = Mistake::new(106..107, "twice").label("again").also(0..1, "first");
        let text = render(&source, &[mistake], Look::PLAIN);
        assert!(text.contains("[x.toml:52:1]") && text.contains("again") && text.contains("first"), "{text}");
        assert!(text.ends_with("x.toml: 1 mistake\n"), "{text}");
    }

    #[test]
    fn no_text_is_too_odd_to_be_shown() {
        for text in ["", "\n", "\u{feff}", "é", "\r\r", "a\r\n\r\n", &"x".repeat(9000), &"[\n".repeat(9000)]
        {
            let source = Source::new("x", text);
            for at in [0..0, 0..text.len(), text.len()..text.len(), 0..text.len() + 7, 9999..99999] {
                let text = render(&source, &[Mistake::new(at.clone(), "odd").also(at, "here")], Look::PLAIN);
                assert!(text.contains("odd") && !text.contains("Failed"), "{text}");
            }
        }
    }
}
