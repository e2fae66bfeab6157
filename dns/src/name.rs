//! Domain names in wire form (RFC 1035, section 3.1), lower case.

use std::fmt;

use smallvec::SmallVec;

/// The longest name, with the root's empty label (RFC 1035, section 2.3.4).
pub(crate) const LONGEST: usize = 255;
/// The longest label.
pub(crate) const LONGEST_LABEL: usize = 63;

/// A part of a name as a key. Most are short: they stand in the map itself, because each pointer on the
/// way to an answer may cost a look into slow memory.
pub(crate) type Key = SmallVec<[u8; 32]>;

/// A domain name: lower case, at least one label, at most 255 bytes on the wire.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// The text is no name of a host or zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no domain name: {problem}; write it such as pg.example.org")]
pub struct NameError {
    text: String,
    problem: String,
}

impl Name {
    /// Reads `pg.example.org`, with or without a dot at its end: labels of 1 to 63 letters,
    /// digits, dashes and underscores, without a dash at either end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let problem = |problem: String| NameError { text: text.escape_debug().collect(), problem };
        let bare = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(bare.len() + 2);
        for label in bare.split('.') {
            check(label).map_err(problem)?;
            push(&mut wire, label.as_bytes());
        }
        wire.push(0);
        if wire.len() > LONGEST {
            return Err(problem(format!("it has {} bytes, and {LONGEST} are allowed", wire.len())));
        }
        Ok(Self(wire.into()))
    }

    /// The name on the wire, with the root's empty label at its end.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, the most special first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// How many labels it has, the root's not counted.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.labels().count()
    }

    /// Is it `zone`, or below it?
    #[must_use]
    pub fn is_within(&self, zone: &Name) -> bool {
        let extra = self.depth().checked_sub(zone.depth());
        extra.is_some_and(|extra| self.labels().skip(extra).eq(zone.labels()))
    }

    /// The name `labels` + this one; `labels` is in wire form without an end.
    ///
    /// # Errors
    /// It would be too long.
    pub(crate) fn below(&self, labels: &[u8]) -> Result<Self, NameError> {
        let wire = [labels, &self.0].concat();
        if wire.len() <= LONGEST {
            return Ok(Self(wire.into()));
        }
        let problem = format!("it has {} bytes, and {LONGEST} are allowed", wire.len());
        Err(NameError { text: Self(wire.into()).to_string(), problem })
    }
}

/// The labels of a name that ends with the root's empty label, or just ends.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first().filter(|(length, _)| **length > 0)?;
        let (label, tail) = tail.split_at_checked(usize::from(*length))?;
        rest = tail;
        Some(label)
    })
}

fn check(label: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if label.is_empty() {
        Err("a label is empty".to_owned())
    } else if label.len() > LONGEST_LABEL {
        Err(format!("a label has {} bytes, and {LONGEST_LABEL} are allowed", label.len()))
    } else if let Some(odd) = label.chars().find(|c| !fits(*c)) {
        Err(format!("{odd:?} has no place in it"))
    } else if label.starts_with('-') || label.ends_with('-') {
        Err("a label begins or ends with a dash".to_owned())
    } else {
        Ok(())
    }
}

/// Appends one label of at most 63 bytes, in lower case.
pub(crate) fn push(wire: &mut Vec<u8>, label: &[u8]) {
    let label = &label[..label.len().min(LONGEST_LABEL)];
    wire.push(u8::try_from(label.len()).unwrap_or(0));
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, label) in self.labels().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{}", String::from_utf8_lossy(label))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown() {
        let name = Name::parse("Pg.Test.").unwrap();
        assert_eq!(name.wire(), b"\x02pg\x04test\x00");
        assert_eq!((name.to_string().as_str(), name.depth()), ("pg.test", 2));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let deep = "abcdefg.".repeat(32);
        for text in ["", ".", "a..b", ".a", "a b", "-a", "a-", "é.de", "a/b", "*", &long, &deep] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        let shown = Name::parse("a\nb").unwrap_err().to_string();
        assert!(shown.contains("\\n") && !shown.contains('\n'), "{shown}");
    }

    #[test]
    fn a_zone_ends_at_a_label() {
        let name = |text| Name::parse(text).unwrap();
        assert!(name("a.pg.test").is_within(&name("pg.test")));
        assert!(name("pg.test").is_within(&name("pg.test")));
        assert!(!name("apg.test").is_within(&name("pg.test")));
        assert!(!name("test").is_within(&name("pg.test")));
    }
}
