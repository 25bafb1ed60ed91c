//! Reads a TOML tree, key by key, and never stops at a mistake.
//!
//! Each table's reader asks a [`Table`] for the keys that it knows, with the type that it wants.
//! What has another type is noted and then missing; what nobody asked for is an unknown key.
//! The keys that were asked for are what an unknown one is compared with, in its own table
//! first and then in the others, so that there is no second list of them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{MOST_SHOWN, Mistake, Mistakes};
use super::source::{Span, quoted};

/// Where mistakes and questions are noted while a tree is read.
#[derive(Debug, Default)]
pub struct Reader {
    mistakes: Mistakes,
    /// The keys that were asked for, by table.
    asked: BTreeMap<&'static str, Vec<&'static str>>,
    unknown: Vec<Unknown>,
}

/// A key that nobody asked for.
#[derive(Debug)]
struct Unknown {
    table: &'static str,
    key: String,
    at: Span,
    is_table: bool,
}

impl Reader {
    /// Notes a mistake.
    pub fn add(&mut self, mistake: Mistake) {
        self.mistakes.add(mistake);
    }

    /// How many mistakes there are so far. Where a table has added to them some of its values are
    /// missing, though they were written.
    pub fn count(&self) -> usize {
        self.mistakes.count()
    }

    /// Reads something, and notes the key where that adds to the mistakes: then some of its value is missing, though it
    /// was written.
    pub fn noting<T>(
        &mut self,
        damaged: &mut Vec<&'static str>,
        key: &'static str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let before = self.count();
        let value = read(self);
        if self.count() > before {
            damaged.push(key);
        }
        value
    }

    /// All that was found, unknown keys among it.
    pub fn finish(mut self) -> Mistakes {
        // Advice is sought among all keys, which takes a while for very many; so only those that can be shown get it.
        self.unknown.sort_by_key(|unknown| unknown.at.start);
        for (place, unknown) in std::mem::take(&mut self.unknown).into_iter().enumerate() {
            let Unknown { table, key, at, is_table } = unknown;
            let message = if is_table && table.is_empty() {
                format!("there is no table {}", quoted(&key))
            } else {
                format!("{} has no key {}", shown(table), quoted(&key))
            };
            let mistake = Mistake::new(at, message);
            let help = (place < MOST_SHOWN).then(|| self.advice(table, &key));
            self.mistakes.add(Mistake { help, ..mistake });
        }
        self.mistakes
    }

    /// What to write instead of an unknown key.
    fn advice(&self, table: &'static str, key: &str) -> String {
        let own = self.asked.get(table).map(Vec::as_slice).unwrap_or_default();
        if let Some(near) = nearest(key, own.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        // Of several tables the outermost is meant, but for the top, where few keys belong.
        let others = self.asked.iter().filter(|(name, keys)| **name != table && keys.contains(&key));
        let elsewhere = others.min_by_key(|(name, _)| (name.is_empty(), name.len()));
        if let Some((name, _)) = elsewhere {
            return format!("`{key}` belongs {}", place(name));
        }
        let near =
            |(name, keys): (&&'static str, &Vec<_>)| Some((*name, nearest(key, keys.iter().copied())?));
        if let Some((name, near)) = self.asked.iter().find_map(near) {
            return format!("did you mean `{near}`, {}?", place(name));
        }
        format!(
            "the keys here are {}",
            own.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
        )
    }
}

/// How a table is called in messages.
fn shown(table: &str) -> String {
    match table {
        "" => "the top of the file".to_owned(),
        head if head.starts_with('[') => format!("`{head}`"),
        other => other.to_owned(),
    }
}

/// How to say that a key belongs into a table.
fn place(table: &str) -> String {
    match table {
        "" => "at the top, before the first `[...]`".to_owned(),
        head if head.starts_with('[') => format!("under `{head}`"),
        other => format!("in {other}"),
    }
}

/// The word that was probably meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4 && *distance < word.len())
        .min()
        .map(|(_, word)| word)
}

/// One table that is being read.
#[derive(Debug)]
pub struct Table<'a> {
    name: &'static str,
    /// `None` stands for a table that is not in the file, and has no keys.
    tree: Option<&'a DeTable<'a>>,
    at: Span,
    asked: Vec<&'static str>,
    /// Keys that are known, but not offered in advice.
    not_offered: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// A table that is not in the file. Reading it makes its keys known, for advice about others.
    pub fn absent(name: &'static str) -> Self {
        Self { name, tree: None, at: 0..0, asked: Vec::new(), not_offered: Vec::new() }
    }

    /// The top of a file.
    pub fn top(tree: &'a Spanned<DeTable<'a>>) -> Self {
        Self { tree: Some(tree.get_ref()), at: tree.span(), ..Self::absent("") }
    }

    /// Where its head is.
    pub fn at(&self) -> Span {
        self.at.clone()
    }

    /// Whether a key is there, with whatever type.
    pub fn has(&self, key: &str) -> bool {
        self.tree.is_some_and(|tree| tree.contains_key(key))
    }

    /// Where the value of a key is, whatever its type.
    pub fn place(&self, key: &str) -> Option<Span> {
        self.tree?.get(key).map(Spanned::span)
    }

    /// Notes a key that is understood, and is for later.
    pub fn not_yet(&mut self, reader: &mut Reader, key: &'static str, help: &str) {
        self.not_offered.push(key);
        if let Some((key, _)) = self.tree.and_then(|tree| tree.get_key_value(key)) {
            let message = format!("{} is not supported yet", quoted(key.get_ref()));
            reader.add(Mistake::new(key.span(), message).help(help));
        }
    }

    /// All that is there, in the order in which it was written. No key is unknown then.
    pub fn entries(&self) -> Vec<(Spanned<String>, &'a Spanned<DeValue<'a>>)> {
        let keys = self.tree.into_iter().flatten();
        let mut entries: Vec<_> =
            keys.map(|(key, value)| (Spanned::new(key.span(), key.get_ref().to_string()), value)).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// The value of a key, whatever it is.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.tree?.get(key)
    }

    /// A text.
    pub fn text(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        text(value).or_else(|| reader.wrong_type(key, value, "a string", &in_quotes(value.get_ref())))
    }

    /// A text that is one of these words; whether it is, is not looked at.
    pub fn word(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        words: &[&str],
    ) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        let help = || match words {
            [one, other] => format!("write \"{one}\" or \"{other}\""),
            words => format!("write one of \"{}\"", words.join("\", \"")),
        };
        text(value).or_else(|| reader.wrong_type(key, value, "a string", &help()))
    }

    /// A text that says a duration; what it means is not looked at.
    pub fn duration(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        text(value).or_else(|| {
            let help = match value.get_ref() {
                DeValue::Integer(number) => format!("for seconds write \"{}s\"", number.as_str()),
                _ => "write a duration in quotes, such as \"2h4m\", \"30s\" or \"500ms\"".to_owned(),
            };
            reader.wrong_type(key, value, "a duration", &help)
        })
    }

    /// A text that says a number of bytes; what it means is not looked at.
    pub fn size(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        text(value).or_else(|| {
            let help = match value.get_ref() {
                DeValue::Integer(number) => format!("for bytes write \"{}B\"", number.as_str()),
                _ => "write a number of bytes in quotes, such as \"64MiB\" or \"512KiB\"".to_owned(),
            };
            reader.wrong_type(key, value, "a number of bytes", &help)
        })
    }

    /// A whole number.
    pub fn number(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<i128>> {
        let value = self.value(key)?;
        if let DeValue::Integer(integer) = value.get_ref() {
            // The parser has checked the digits, so that only the size can be wrong.
            let number = i128::from_str_radix(integer.as_str(), integer.radix());
            return Some(Spanned::new(value.span(), number.unwrap_or(i128::MAX)));
        }
        let example = match value.get_ref() {
            DeValue::String(text) if text.trim().parse::<i128>().is_ok() => {
                format!("write it without quotes: {}", text.trim())
            }
            DeValue::Float(float) => {
                let whole = float.as_str().split(['.', 'e', 'E']).next().unwrap_or_default();
                format!("write it without a fraction: {whole}")
            }
            _ => "write a whole number, such as 2".to_owned(),
        };
        reader.wrong_type(key, value, "a whole number", &example)
    }

    /// `true` or `false`.
    pub fn truth(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<bool>> {
        let value = self.value(key)?;
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(Spanned::new(value.span(), *truth));
        }
        reader.wrong_type(key, value, "true or false", "write `true` or `false`, without quotes")
    }

    /// A list, of anything.
    pub fn list(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
    ) -> Option<Spanned<Vec<&'a Spanned<DeValue<'a>>>>> {
        let value = self.value(key)?;
        if let DeValue::Array(items) = value.get_ref() {
            return Some(Spanned::new(value.span(), items.iter().collect()));
        }
        let example = match value.get_ref() {
            DeValue::String(text) => format!("put it in brackets: [{}]", quoted(text).replace('`', "\"")),
            _ => format!("write {key} = [\"...\", \"...\"]"),
        };
        reader.wrong_type(key, value, "a list", &example)
    }

    /// A list of whole numbers. Items of another type are noted and left out.
    pub fn numbers(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<Vec<Spanned<i128>>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::Integer(number) => format!("put it in brackets: [{}]", number.as_str()),
                _ => format!("write numbers in brackets, such as {key} = [502, 503]"),
            };
            return reader.wrong_type(key, value, "a list of whole numbers", &help);
        };
        let numbers = items.iter().filter_map(|item| match item.get_ref() {
            DeValue::Integer(integer) => {
                let number = i128::from_str_radix(integer.as_str(), integer.radix());
                Some(Spanned::new(item.span(), number.unwrap_or(i128::MAX)))
            }
            _ => {
                let help = "write whole numbers, without quotes, such as [502, 503]";
                reader.wrong_type(key, item, "a list of whole numbers", help)
            }
        });
        Some(Spanned::new(value.span(), numbers.collect()))
    }

    /// A list of texts. Items of another type are noted and left out.
    pub fn texts(&mut self, reader: &mut Reader, key: &'static str) -> Option<Spanned<Vec<Spanned<String>>>> {
        let list = self.list(reader, key)?;
        let at = list.span();
        let texts = list.into_inner().into_iter().filter_map(|item| {
            text(item)
                .or_else(|| reader.wrong_type(key, item, "a list of strings", &in_quotes(item.get_ref())))
        });
        Some(Spanned::new(at, texts.collect()))
    }

    /// A table of the file's top, which may be absent.
    pub fn table(&mut self, reader: &mut Reader, key: &'static str, name: &'static str) -> Table<'a> {
        let found = self.value(key).and_then(|value| match value.get_ref() {
            DeValue::Table(tree) => Some((value.span(), tree)),
            _ => reader.wrong_type(key, value, "a table", &format!("write `{name}` on a line of its own")),
        });
        let (at, tree) = found.map_or((self.at(), None), |(at, tree)| (at, Some(tree)));
        Table { tree, at, ..Table::absent(name) }
    }

    /// A list of tables, such as `[[service]]`.
    pub fn tables(&mut self, reader: &mut Reader, key: &'static str, name: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let help = format!("write `{name}`, in two pairs of brackets, above each");
        if let DeValue::Array(items) = value.get_ref() {
            let tables = items.iter().filter_map(|item| {
                inner(name, item).or_else(|| reader.wrong_type(key, item, "a list of tables", &help))
            });
            return tables.collect();
        }
        reader.wrong_type::<()>(key, value, "a list of tables", &help);
        // Its keys are read all the same, since there may be more to say about them.
        inner(name, value).into_iter().collect()
    }

    /// Ends the reading: what is left are unknown keys.
    pub fn finish(self, reader: &mut Reader) {
        for (key, value) in self.tree.into_iter().flatten() {
            let mut known = self.asked.iter().chain(&self.not_offered);
            if !known.any(|known| *known == key.get_ref().as_ref()) {
                reader.unknown.push(Unknown {
                    table: self.name,
                    key: key.get_ref().to_string(),
                    at: key.span(),
                    is_table: is_table(value.get_ref()),
                });
            }
        }
        reader.asked.insert(self.name, self.asked);
    }
}

/// Whether a value is a table, or a list of them.
fn is_table(value: &DeValue<'_>) -> bool {
    let first = value.as_array().and_then(|items| items.iter().next());
    value.is_table() || first.is_some_and(|item| item.get_ref().is_table())
}

/// A table that stands as a value in a list.
pub fn inner<'a>(name: &'static str, value: &'a Spanned<DeValue<'a>>) -> Option<Table<'a>> {
    let tree = value.get_ref().as_table()?;
    Some(Table { tree: Some(tree), at: value.span(), ..Table::absent(name) })
}

/// A text that stands as a value.
pub fn text(value: &Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
    value.get_ref().as_str().map(|text| Spanned::new(value.span(), text.to_owned()))
}

/// How to make a text of something that lacks only the quotes.
fn in_quotes(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("put it in quotes: \"{}\"", number.as_str()),
        DeValue::Float(number) => format!("put it in quotes: \"{}\"", number.as_str()),
        DeValue::Boolean(truth) => format!("put it in quotes: \"{truth}\""),
        DeValue::Array(_) => "write one string, without brackets".to_owned(),
        DeValue::String(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            "write a string, in quotes".to_owned()
        }
    }
}

impl Reader {
    /// Notes that a value is of another type than it should be.
    pub fn wrong_type<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        help: &str,
    ) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{key}` must be {wanted}");
        self.add(Mistake::new(value.span(), message).label(format!("this is {found}")).help(help));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant_is_found_and_nothing_else() {
        let known = ["name", "queues", "listen", "scheduler", "max_per_client", "io", "udp"];
        for (written, want) in [
            ("nmae", Some("name")),
            ("queue", Some("queues")),
            ("Listen", Some("listen")),
            ("shceduler", Some("scheduler")),
            ("max_per_clients", Some("max_per_client")),
            ("oi", Some("io")),
            ("tls", None),
            ("x", None),
            ("backends", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), want, "{written}");
        }
    }

    #[test]
    fn advice_is_sought_for_those_unknown_keys_that_can_be_shown() {
        let text = (0..40_000).map(|number| format!("unknown_{number} = 1\n")).collect::<Vec<_>>().concat();
        let tree = DeTable::parse(&text).unwrap();
        let mut reader = Reader::default();
        let mut table = Table::top(&tree);
        assert!(table.text(&mut reader, "known").is_none());
        table.finish(&mut reader);
        let mistakes = reader.finish().into_sorted();
        assert_eq!(mistakes.len(), 40_000);
        assert!(
            mistakes
                .iter()
                .enumerate()
                .all(|(place, mistake)| mistake.help.is_some() == (place < MOST_SHOWN))
        );
    }
}
