//! Server-sent events, as far as OpenCode uses them: `data:` lines, one JSON object each.

use super::wire::SseFrame;

/// A longer line is skipped whole: it can only be a tool output that nobody should stream.
const LINE_MAX_BYTES: usize = 16 << 20;

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    skipping: bool,
}

impl SseParser {
    /// Takes the next bytes and gives the frames that they complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<SseFrame> {
        let mut frames = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(frame) = self.end_line() {
                frames.push(frame);
            }
        }
        self.extend(bytes);
        frames
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping || self.line.len() + bytes.len() > LINE_MAX_BYTES {
            self.skipping = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) -> Option<SseFrame> {
        if std::mem::take(&mut self.skipping) {
            tracing::warn!(event = "opencode.frame_skipped");
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.is_empty() {
            if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
            return None;
        }
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return None;
        }
        serde_json::from_slice(&data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let text = "data: {\"type\":\"a\",\"properties\":{\"t\":\"😀\"}}\n\n: comment\r\nid: 1\ndata: {\"type\":\r\ndata: \"b\"}\r\n\r\ndata: nonsense\n\n";
        for size in 1..text.len() {
            let mut parser = SseParser::default();
            let kinds: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk)).map(|frame| frame.kind).collect();
            assert_eq!(kinds, ["a", "b"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_skipped_and_the_next_frame_is_read() {
        let mut parser = SseParser::default();
        for _ in 0..20 {
            assert!(parser.push(&vec![b'x'; 1 << 20]).is_empty());
        }
        assert!(parser.line.len() <= LINE_MAX_BYTES);
        assert_eq!(parser.push(b"\n\ndata: {\"type\":\"a\"}\n\n").len(), 1);
    }
}
