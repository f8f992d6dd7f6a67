//! Text measured as the wire measures it.

/// Length in UTF-16 code units.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Byte index of the UTF-16 offset `units`, or `None` when it is beyond the end or would split a surrogate pair.
pub fn byte_index_of_utf16(text: &str, units: usize) -> Option<usize> {
    let mut seen = 0;
    for (index, character) in text.char_indices() {
        if seen == units {
            return Some(index);
        }
        if seen > units {
            return None;
        }
        seen += character.len_utf16();
    }
    (seen == units).then_some(text.len())
}

/// The longest prefix of `text` of at most `max` bytes that ends on a character.
pub fn truncate_bytes(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Keeps the head and the tail of a long text with a marker between them, so that at most about `max` bytes remain.
pub fn head_and_tail(text: &str, max: usize) -> Option<String> {
    if text.len() <= max {
        return None;
    }
    let half = max / 2;
    let head = truncate_bytes(text, half);
    let mut start = text.len() - half;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let left_out = start - head.len();
    Some(format!("{head}\n[… {left_out} bytes left out …]\n{}", &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_offsets_never_split_a_pair() {
        let text = "a😀b";
        assert_eq!(utf16_len(text), 4);
        assert_eq!(byte_index_of_utf16(text, 0), Some(0));
        assert_eq!(byte_index_of_utf16(text, 1), Some(1));
        assert_eq!(byte_index_of_utf16(text, 2), None);
        assert_eq!(byte_index_of_utf16(text, 3), Some(5));
        assert_eq!(byte_index_of_utf16(text, 4), Some(6));
        assert_eq!(byte_index_of_utf16(text, 5), None);
    }

    #[test]
    fn a_long_output_keeps_head_and_tail() {
        let text = format!("start{}end", "ä".repeat(1000));
        let cut = head_and_tail(&text, 100).expect("longer than 100 bytes");
        assert!(cut.starts_with("start") && cut.ends_with("end") && cut.len() < 160);
        assert_eq!(head_and_tail("short", 100), None);
    }
}
