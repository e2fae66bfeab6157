//! From YAML text to a [`Node`].
//!
//! The tree is built from the parser's events rather than through serde, because keys need their
//! places too (an unknown key is reported with its line) and scalars their text.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::error::{Error, Place};
use crate::tree::{Entry, Node, Tree};

/// Values in one file, those repeated by aliases included. Keeps alias bombs small.
const MOST_VALUES: usize = 20_000;
/// Levels of nesting; a configuration has about six.
const MOST_LEVELS: usize = 48;

const HINT_SYNTAX: &str = "check indentation, quotes and brackets at or just before this place";

/// Reads one document.
///
/// # Errors
/// [`Error::Malformed`] with the place where the text stops being YAML, has a key twice, or nests
/// too deeply.
pub(crate) fn parse(file: &Arc<str>, text: &str) -> Result<Node, Error> {
    let options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { events, file, anchors: HashMap::new(), values: 0 };
    builder.document()
}

struct Builder<'f, I> {
    events: I,
    file: &'f Arc<str>,
    anchors: HashMap<usize, Node>,
    values: usize,
}

impl<'t, I: Iterator<Item = Result<(Event<'t>, Span), ScanError>>> Builder<'_, I> {
    fn document(&mut self) -> Result<Node, Error> {
        let mut root = None;
        while let Some(next) = self.events.next() {
            let (event, span) = next.map_err(|error| self.scan_error(&error))?;
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    let hint = "keep one document per file: remove the line --- and what follows";
                    return Err(self.malformed(&span, "a second document begins here", hint));
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                event => root = Some(self.node(event, &span, 0)?),
            }
        }
        Ok(root.unwrap_or_else(|| Node::plain(Place::whole(self.file), "")))
    }

    fn node(&mut self, event: Event<'t>, span: &Span, level: usize) -> Result<Node, Error> {
        self.count(1, level, span)?;
        let (tree, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(text.into_owned(), style, tag.as_deref(), span)?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(level + 1)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(level + 1)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, span, level),
            _ => return Err(self.malformed(span, "a value is missing here", HINT_SYNTAX)),
        };
        let node = Node { place: self.place(&span.start), tree };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(
        &self,
        text: String,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<Tree, Error> {
        let plain = style == ScalarStyle::Plain;
        match tag.map(Tag::core_suffix) {
            None => Ok(Tree::Scalar { text, plain }),
            Some(Some("str")) => Ok(Tree::Scalar { text, plain: false }),
            Some(Some(_)) => Ok(Tree::Scalar { text, plain: true }),
            Some(None) => {
                let hint = "remove the word that begins with an exclamation mark, or quote it";
                Err(self.malformed(span, "this tag is not known", hint))
            }
        }
    }

    fn list(&mut self, level: usize) -> Result<Tree, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Tree::List(items)),
                (event, span) => items.push(self.node(event, &span, level)?),
            }
        }
    }

    fn map(&mut self, level: usize) -> Result<Tree, Error> {
        let (mut entries, mut merged, mut keys) = (Vec::new(), Vec::new(), HashSet::new());
        loop {
            let (key, plain, key_span) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), span) => {
                    (text.into_owned(), style == ScalarStyle::Plain, span)
                }
                (_, span) => {
                    let hint = "write keys as plain words; quote text that begins with [, { or *";
                    return Err(self.malformed(&span, "this cannot be a key", hint));
                }
            };
            let (event, span) = self.next()?;
            let node = self.node(event, &span, level)?;
            // In quotes it is a key like any other.
            if plain && key == "<<" {
                merged.push(node);
                continue;
            }
            if !keys.insert(key.clone()) {
                return Err(self.duplicate(&key, &key_span, &entries));
            }
            entries.push(Entry { key, place: self.place(&key_span.start), node });
        }
        for entry in merged.into_iter().flat_map(merge_sources) {
            if keys.insert(entry.key.clone()) {
                entries.push(entry);
            }
        }
        Ok(Tree::Map(entries))
    }

    fn alias(&mut self, anchor: usize, span: &Span, level: usize) -> Result<Node, Error> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let hint = "let the alias name something that ends before it";
            return Err(self.malformed(span, "this alias refers to itself", hint));
        };
        let (size, depth) = node.measure();
        self.count(size, level + depth, span)?;
        Ok(node)
    }

    fn count(&mut self, values: usize, level: usize, span: &Span) -> Result<(), Error> {
        self.values += values;
        if level > MOST_LEVELS {
            let reason = format!("more than {MOST_LEVELS} levels of nesting");
            return Err(self.malformed(span, &reason, HINT_SYNTAX));
        }
        if self.values > MOST_VALUES {
            let reason = format!("more than {MOST_VALUES} values");
            let hint = "give the node's configuration only; look for aliases that multiply";
            return Err(self.malformed(span, &reason, hint));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Error> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Err(Error::Malformed {
                place: Place::whole(self.file),
                reason: "the text ends too early".to_owned(),
                hint: HINT_SYNTAX,
            }),
        }
    }

    fn duplicate(&self, key: &str, span: &Span, entries: &[Entry]) -> Error {
        let first = entries.iter().find(|entry| entry.key == key);
        let line = first.map_or(0, |entry| entry.place.line);
        let reason = format!("the key {key:?} is given twice, first on line {line}");
        self.malformed(span, &reason, "keep one of the two")
    }

    fn scan_error(&self, error: &ScanError) -> Error {
        let place = self.place(error.marker());
        Error::Malformed { place, reason: error.info(), hint: HINT_SYNTAX }
    }

    fn malformed(&self, span: &Span, reason: &str, hint: &'static str) -> Error {
        Error::Malformed { place: self.place(&span.start), reason: reason.to_owned(), hint }
    }

    fn place(&self, mark: &Marker) -> Place {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let column = number(mark.col()).saturating_add(1);
        Place { file: Arc::clone(self.file), line: number(mark.line()), column }
    }
}

/// The entries that `<<` brings in: from one map or a list of maps.
fn merge_sources(node: Node) -> Vec<Entry> {
    match node.tree {
        Tree::Map(entries) => entries,
        Tree::List(items) => items.into_iter().flat_map(merge_sources).collect(),
        Tree::Scalar { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(text: &str) -> String {
        parse(&"n1.yml".into(), text).unwrap_err().to_string()
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let node = parse(&"f".into(), "# note\na:\n  b: x\n  c: [1, {d: 2}]\n").unwrap();
        let entry = node.get("a").unwrap().entry("b").unwrap();
        assert_eq!((entry.place.line, entry.place.column), (3, 3));
        assert_eq!((entry.node.place.line, entry.node.place.column), (3, 6));
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        assert_eq!(
            error("a: 1\nb: 2\na: 3\n"),
            "n1.yml:3:1: not valid YAML: the key \"a\" is given twice, first on line 1\n  \
             hint: keep one of the two"
        );
    }

    #[test]
    fn malformed_text_gives_its_line() {
        assert!(error("a: 1\nb: [1, 2\nc: 3\n").starts_with("n1.yml:3:"));
        assert!(error("a: \"x\n").starts_with("n1.yml:"));
        assert!(
            error("a: 1\n---\nb: 2\n").contains("n1.yml:2:1: not valid YAML: a second document")
        );
        assert!(error("a: !vault x\n").contains("tag is not known"));
        assert!(error("[a]: 1\n").contains("cannot be a key"));
    }

    #[test]
    fn anchors_and_merges_work_and_bombs_do_not() {
        let node = parse(&"f".into(), "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n").unwrap();
        let expected = json!({"a": {"p": 1, "q": 2}, "b": {"q": 3, "p": 1}, "c": {"p": 1, "q": 2}});
        assert_eq!(node.to_json(), expected);
        assert!(error("a: &x [*x]\n").contains("refers to itself"));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let refs = vec![format!("*a{}", n - 1); 8].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        assert!(error(&bomb).contains("more than 20000 values"));
        let deep = format!("{}{}", "[".repeat(99), "]".repeat(99));
        assert!(error(&deep).contains("levels of nesting"));
        assert!(error(&format!("{}1", "- ".repeat(99))).contains("levels of nesting"));
        let mut chain = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned();
        for n in 1..9 {
            chain.push_str(&format!("a{n}: &a{n} [[[[[[[[[[*a{}]]]]]]]]]]\n", n - 1));
        }
        assert!(error(&chain).contains("levels of nesting"));
    }
}
