//! The end of what a terminal, a hook or a build wrote, for those who come later.

use std::collections::VecDeque;

/// The last bytes of an output, up to a limit.
#[derive(Debug)]
pub struct KeptOutput {
    bytes: VecDeque<u8>,
    limit: usize,
    /// Whether anything was left out.
    cut: bool,
}

impl KeptOutput {
    /// Nothing yet, and never more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), limit, cut: false }
    }

    /// Takes more output.
    pub fn push(&mut self, output: &[u8]) {
        let output = &output[output.len().saturating_sub(self.limit)..];
        let over = (self.bytes.len() + output.len()).saturating_sub(self.limit);
        self.cut |= over > 0;
        self.bytes.drain(..over.min(self.bytes.len()));
        self.bytes.extend(output);
    }

    /// Whether anything was left out.
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// All that is kept, for a terminal. What was cut begins with a whole line where there is one, so that it does not
    /// begin within a control sequence or a character.
    pub fn picture(&self) -> Vec<u8> {
        self.from(self.whole_lines_begin().unwrap_or(0))
    }

    /// The lines that are whole, for a reader; the last one may yet be written.
    pub fn lines(&self) -> String {
        let begin = self.whole_lines_begin().unwrap_or(self.bytes.len());
        String::from_utf8_lossy(&self.from(begin)).into_owned()
    }

    /// Where the first line begins that has not lost its beginning.
    fn whole_lines_begin(&self) -> Option<usize> {
        if self.cut { self.bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1) } else { Some(0) }
    }

    fn from(&self, begin: usize) -> Vec<u8> {
        self.bytes.range(begin..).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_begins_with_a_whole_line() {
        let mut kept = KeptOutput::new(16);
        kept.push(b"one\ntwo\n");
        assert_eq!(kept.picture(), b"one\ntwo\n");
        kept.push(b"three\nfour\n");
        assert_eq!(kept.picture(), b"two\nthree\nfour\n");
        kept.push(&[b'x'; 100]);
        assert_eq!(kept.picture(), [b'x'; 16]);
        assert_eq!(kept.lines(), "");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_always_the_end_of_what_was_written(writes in proptest::collection::vec("[a\n]{0,12}", 0..20)) {
            let mut kept = KeptOutput::new(20);
            let mut all = Vec::new();
            for write in writes {
                kept.push(write.as_bytes());
                all.extend(write.as_bytes());
            }
            let picture = kept.picture();
            proptest::prop_assert!(picture.len() <= 20 && all.ends_with(&picture));
            proptest::prop_assert!(all.len() > 20 || picture == all);
            let lines = kept.lines().into_bytes();
            proptest::prop_assert!(all.ends_with(&lines));
            let before = &all[..all.len() - lines.len()];
            proptest::prop_assert!(lines.is_empty() || before.is_empty() || before.ends_with(b"\n"));
        }
    }
}
