//! The question of an ordinary query (RFC 1035, section 4.1), read without an allocation.

use crate::name::LONGEST;

/// The header's length.
pub(crate) const HEADER: usize = 12;
/// Class IN.
pub(crate) const IN: u16 = 1;

/// A question: its name in lower case, and where it ends in the packet.
#[derive(Debug)]
pub(crate) struct Question {
    lower: [u8; LONGEST],
    length: usize,
    pub kind: u16,
    pub class: u16,
    /// Where the question ends in the packet.
    pub end: usize,
}

impl Question {
    /// Reads the question after the header; `None` where it is not whole, or its name is
    /// compressed.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let mut question = Self { lower: [0; LONGEST], length: 0, kind: 0, class: 0, end: 0 };
        let mut at = HEADER;
        loop {
            let length = usize::from(*packet.get(at)?);
            // The two highest bits are set in a pointer (and in forms that were never used).
            if length > 63 {
                return None;
            }
            let label = packet.get(at..at + 1 + length)?;
            question.push(label)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
        question.kind = u16_at(packet, at)?;
        question.class = u16_at(packet, at + 2)?;
        question.end = at + 4;
        Some(question)
    }

    /// A name that was read elsewhere: whole, in wire form.
    pub fn of(wire: &[u8], kind: u16, class: u16) -> Option<Self> {
        let mut question = Self { lower: [0; LONGEST], length: 0, kind, class, end: 0 };
        question.push(wire)?;
        Some(question)
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let room = self.lower.get_mut(self.length..self.length + bytes.len())?;
        room.copy_from_slice(bytes);
        // Lengths are below 64, so no letter is among them.
        room.make_ascii_lowercase();
        self.length += bytes.len();
        Some(())
    }

    /// The whole name, in lower case.
    pub fn name(&self) -> &[u8] {
        &self.lower[..self.length]
    }

    /// The labels before `zone`; `None` where the name is not in it.
    pub fn below(&self, zone: &[u8]) -> Option<&[u8]> {
        let at = self.length.checked_sub(zone.len())?;
        let (before, rest) = self.name().split_at(at);
        // The zone must begin where a label does.
        let whole = before.is_empty() || last_label(before).is_some();
        (rest == zone && whole).then_some(before)
    }

    /// Splits the last label (without its length) off.
    pub fn split_last<'a>(&self, labels: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let start = last_label(labels).unwrap_or(0);
        (&labels[..start], labels.get(start + 1..).unwrap_or_default())
    }
}

/// Where the last of these labels begins; `None` where they do not end with a whole label.
fn last_label(labels: &[u8]) -> Option<usize> {
    let (mut at, mut last) = (0, None);
    while let Some(length) = labels.get(at) {
        last = Some(at);
        at += 1 + usize::from(*length);
    }
    last.filter(|_| at == labels.len())
}

/// Two bytes, highest first.
pub(crate) fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn packet(name: &[u8]) -> Vec<u8> {
        [&[0; HEADER], name, &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn a_question_is_split_at_labels() {
        let packet = packet(b"\x07PRIMary\x02Ha\x02pg\x04TEST\x00");
        let question = Question::read(&packet).unwrap();
        assert_eq!((question.kind, question.class, question.end), (1, IN, packet.len()));
        let zone = Name::parse("pg.test").unwrap();
        let below = question.below(zone.wire()).unwrap();
        assert_eq!(below, b"\x07primary\x02ha");
        assert_eq!(question.split_last(below), (b"\x07primary".as_slice(), b"ha".as_slice()));
    }

    #[test]
    fn a_zone_must_begin_where_a_label_does() {
        let zone = Name::parse("pg.test").unwrap();
        for (name, within) in [
            (b"\x02pg\x04test\x00".as_slice(), true),
            (b"\x0bxyz\x02pg\x04test\x00\x00", false),
            (b"\x04test\x00", false),
            (b"\x00", false),
        ] {
            let question = Question::read(&packet(name)).unwrap();
            assert_eq!(question.below(zone.wire()).is_some(), within, "{name:?}");
        }
    }

    #[test]
    fn what_is_not_whole_is_none() {
        for name in [b"\x05abc".as_slice(), b"\xc0\x0c", b"\x40", &[63; 400]] {
            assert!(Question::read(&[&[0; HEADER], name].concat()).is_none(), "{name:?}");
        }
    }
}
