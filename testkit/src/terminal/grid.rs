//! The characters of a terminal's screen: as much of what terminals understand as `hart` makes use of.

/// Rows of characters, and where the next one goes.
#[derive(Debug)]
pub(super) struct Grid {
    rows: Vec<Vec<char>>,
    columns: usize,
    row: usize,
    column: usize,
    /// The page below, while the program has one of its own.
    below: Option<Vec<Vec<char>>>,
    /// The beginning of a character, or of a sequence that is no character.
    begun: Vec<u8>,
}

impl Grid {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        let begun = Vec::new();
        Self { rows: blank(columns, rows), columns, row: 0, column: 0, below: None, begun }
    }

    /// What does not fit any more is lost.
    pub(super) fn resize(&mut self, columns: usize, rows: usize) {
        for page in std::iter::once(&mut self.rows).chain(&mut self.below) {
            page.iter_mut().for_each(|row| row.resize(columns, ' '));
            page.resize(rows, vec![' '; columns]);
        }
        self.columns = columns;
        (self.row, self.column) = (self.row.min(rows - 1), self.column.min(columns));
    }

    pub(super) fn text(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| row.iter().collect()).collect();
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.begun.push(*byte);
            if self.take() {
                self.begun.clear();
            }
        }
    }

    /// Takes what has begun, if it is whole.
    fn take(&mut self) -> bool {
        match self.begun.as_slice() {
            [0x1b] | [0x1b, b'['] => false,
            [0x1b, b'[', middle @ .., last] => {
                if !(0x40..0x7f).contains(last) {
                    return false;
                }
                let (last, middle) = (*last, String::from_utf8_lossy(middle).into_owned());
                self.control(last, &middle);
                true
            }
            [0x1b, _] => true,
            bytes => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    text.to_owned().chars().for_each(|c| self.put(c));
                    true
                }
                Err(error) => error.error_len().is_some(),
            },
        }
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => self.down(),
            c if c.is_control() => {}
            c => {
                // Behind a full line the next character begins another one.
                if self.column >= self.columns {
                    self.column = 0;
                    self.down();
                }
                self.rows[self.row][self.column] = c;
                self.column += 1;
            }
        }
    }

    fn down(&mut self) {
        if self.row + 1 < self.rows.len() {
            self.row += 1;
        } else {
            self.rows.remove(0);
            self.rows.push(vec![' '; self.columns]);
        }
    }

    fn control(&mut self, what: u8, middle: &str) {
        let numbers: Vec<usize> = middle.split(';').filter_map(|part| part.parse().ok()).collect();
        let number = |at: usize, usual: usize| numbers.get(at).copied().unwrap_or(usual);
        // A terminal takes what stands in the last column from there on as well.
        let here = self.column.min(self.columns - 1);
        match (what, middle) {
            (b'H', _) => {
                self.row = number(0, 1).max(1).min(self.rows.len()) - 1;
                self.column = number(1, 1).max(1).min(self.columns) - 1;
            }
            (b'A', _) => self.row = self.row.saturating_sub(number(0, 1)),
            (b'K', "2") => self.rows[self.row].fill(' '),
            (b'K', _) => self.rows[self.row][here..].fill(' '),
            (b'J', "2") => self.rows.iter_mut().for_each(|row| row.fill(' ')),
            (b'J', _) => {
                self.rows[self.row][here..].fill(' ');
                self.rows[self.row + 1..].iter_mut().for_each(|row| row.fill(' '));
            }
            (b'h', "?1049") => {
                let own = blank(self.columns, self.rows.len());
                self.below = Some(std::mem::replace(&mut self.rows, own));
            }
            (b'l', "?1049") => {
                if let Some(below) = self.below.take() {
                    self.rows = below;
                    (self.row, self.column) = (0, 0);
                }
            }
            _ => {}
        }
    }
}

fn blank(columns: usize, rows: usize) -> Vec<Vec<char>> {
    vec![vec![' '; columns]; rows]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut grid = Grid::new(5, 3);
        // As it may come.
        text.bytes().for_each(|byte| grid.write(&[byte]));
        grid.text()
    }

    #[test]
    fn lines_go_below_each_other_and_away_at_the_top() {
        assert_eq!(shown("a\r\nbc"), "a\nbc");
        assert_eq!(shown("1\r\n2\r\n3\r\n4"), "2\n3\n4");
        assert_eq!(shown("ab→defg"), "ab→de\nfg");
        assert_eq!(shown("abcde\r\nf"), "abcde\nf", "a full line is not followed by an empty one");
    }

    #[test]
    fn a_picture_takes_the_place_of_another() {
        assert_eq!(shown("abc\r\ndef\r\n\x1b[H\x1b[Kx\r\n\x1b[J"), "x");
        assert_eq!(shown("abcde\x1b[K"), "abcd", "as terminals have it");
        assert_eq!(shown("a\x1b[1;32mb\x1b[m\x1b[2;2Hc"), "ab\n c");
    }

    #[test]
    fn a_page_of_its_own_leaves_the_other_as_it_was() {
        assert_eq!(shown("ab\x1b[?1049h\x1b[Hxyz"), "xyz");
        assert_eq!(shown("ab\x1b[?1049h\x1b[Hxyz\x1b[?1049l\x1b[2;1Hc"), "ab\nc");
    }
}
