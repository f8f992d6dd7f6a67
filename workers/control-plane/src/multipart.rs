//! `multipart/form-data` (RFC 7578) as it comes in: pieces of any size go in, parts come out. Never more than the last
//! piece and a part's headers are held, however large the form is.

use oi_worker_kit::Refusal;

/// Longest headers of one part, in bytes.
const HEADERS_MAX_BYTES: usize = 8 * 1024;
/// Parts of a form, at most.
const PARTS_MAX: usize = 32;
/// Longest boundary, in bytes (RFC 2046).
const BOUNDARY_MAX_BYTES: usize = 70;

/// What a part's headers say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartHead {
    /// The field.
    pub name: String,
    /// The type that the sender declares.
    pub content_type: Option<String>,
}

/// What is next in a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(PartHead),
    /// Some of its bytes, never none.
    Data(Vec<u8>),
    /// It is over.
    PartEnd,
    /// The form is over; what follows is ignored.
    End,
}

/// The form breaks its rules, or was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a whole multipart form")]
pub struct Malformed;

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::invalid_body("The request body is not a whole multipart form")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// After a boundary: headers follow, or `--`.
    Boundary,
    Headers,
    Body,
    Over,
}

/// Takes a form apart.
pub struct MultipartReader {
    /// A line break and the boundary; what precedes the form counts as one that ended in a line break.
    delimiter: Vec<u8>,
    state: State,
    /// What came and was not given out; `start` of it was.
    held: Vec<u8>,
    start: usize,
    parts: usize,
}

/// The boundary that a `Content-Type` names; `None` when it is another type, or names none that is allowed.
pub fn boundary_of(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let fits = (1..=BOUNDARY_MAX_BYTES).contains(&boundary.len())
        && boundary.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !boundary.ends_with(' ');
    fits.then_some(boundary)
}

/// The value of a parameter, `name=value` or `name="value"`, of those after the first `;` of a header.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (key, after) = rest.split_once('=')?;
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let (text, length) = unquote(quoted)?;
            value = text;
            rest = &quoted[length..];
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value = after[..end].trim().to_owned();
            rest = &after[end..];
        }
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
    }
}

/// A quoted text up to its closing quote, and how much of the input it took. A backslash quotes a quote or a backslash
/// only, since old browsers send paths.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, at + 1)),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, next)) => value.push(next),
                None => value.push('\\'),
            },
            _ => value.push(character),
        }
    }
    None
}

fn part_head(headers: &[u8]) -> Result<PartHead, Malformed> {
    // A file's name, which is not looked at, may be written in anything.
    let text = String::from_utf8_lossy(headers);
    let mut head = PartHead::default();
    let mut is_form_data = false;
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        if name.eq_ignore_ascii_case("Content-Disposition") {
            let (kind, parameters) = value.split_once(';').ok_or(Malformed)?;
            is_form_data = kind.trim().eq_ignore_ascii_case("form-data");
            head.name = parameter(parameters, "name").ok_or(Malformed)?;
        } else if name.eq_ignore_ascii_case("Content-Type") {
            head.content_type = Some(value.trim().to_owned());
        }
    }
    if is_form_data { Ok(head) } else { Err(Malformed) }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(found) = haystack[from..].iter().position(|byte| *byte == first) {
        let at = from + found;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// How much of the end of `bytes` may be the beginning of `needle`.
fn overlap(bytes: &[u8], needle: &[u8]) -> usize {
    let longest = bytes.len().min(needle.len() - 1);
    (1..=longest).rev().find(|length| needle.starts_with(&bytes[bytes.len() - length..])).unwrap_or(0)
}

impl MultipartReader {
    /// A reader of a form with this boundary.
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            state: State::Preamble,
            held: b"\r\n".to_vec(),
            start: 0,
            parts: 0,
        }
    }

    /// Takes a piece. All that the ones before held must have been given out by [`MultipartReader::next_event`].
    pub fn push(&mut self, piece: &[u8]) {
        if self.state == State::Over {
            return;
        }
        self.held.drain(..self.start);
        self.start = 0;
        self.held.extend_from_slice(piece);
    }

    /// What is next; `None` when more pieces must come first.
    pub fn next_event(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            let rest = &self.held[self.start..];
            match self.state {
                State::Preamble => {
                    let Some(at) = find(rest, &self.delimiter) else {
                        // A preamble says nothing and is not kept.
                        self.start = self.held.len() - overlap(rest, &self.delimiter);
                        return Ok(None);
                    };
                    self.start += at + self.delimiter.len();
                    self.state = State::Boundary;
                }
                State::Boundary => {
                    // Blanks may follow a boundary on its line.
                    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                    match &rest[blanks..] {
                        _ if blanks > BOUNDARY_MAX_BYTES => return Err(Malformed),
                        [b'-', b'-', ..] if blanks == 0 => {
                            self.state = State::Over;
                            return Ok(Some(Event::End));
                        }
                        // The break stays, so that the end of headers that are none is found.
                        [b'\r', b'\n', ..] => {
                            self.start += blanks;
                            self.state = State::Headers;
                        }
                        [] | [b'\r' | b'-'] => return Ok(None),
                        _ => return Err(Malformed),
                    }
                }
                State::Headers => {
                    let Some(length) = find(rest, b"\r\n\r\n") else {
                        return if rest.len() >= HEADERS_MAX_BYTES + 4 { Err(Malformed) } else { Ok(None) };
                    };
                    self.parts += 1;
                    if length > HEADERS_MAX_BYTES || self.parts > PARTS_MAX {
                        return Err(Malformed);
                    }
                    let head = part_head(rest.get(2..length).ok_or(Malformed)?)?;
                    self.start += length + 4;
                    self.state = State::Body;
                    return Ok(Some(Event::Part(head)));
                }
                State::Body => {
                    if let Some(at) = find(rest, &self.delimiter) {
                        if at > 0 {
                            let data = rest[..at].to_vec();
                            self.start += at;
                            return Ok(Some(Event::Data(data)));
                        }
                        self.start += self.delimiter.len();
                        self.state = State::Boundary;
                        return Ok(Some(Event::PartEnd));
                    }
                    let sure = rest.len() - overlap(rest, &self.delimiter);
                    if sure == 0 {
                        return Ok(None);
                    }
                    let data = rest[..sure].to_vec();
                    self.start += sure;
                    return Ok(Some(Event::Data(data)));
                }
                State::Over => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All events, with the data of each part put together.
    fn read<'p>(boundary: &str, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<Event>, Malformed> {
        let mut reader = MultipartReader::new(boundary);
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece);
            assert!(reader.held.len() <= piece.len() + HEADERS_MAX_BYTES + 200, "what is held is bounded");
            while let Some(event) = reader.next_event()? {
                match (events.last_mut(), event) {
                    (Some(Event::Data(before)), Event::Data(data)) => before.extend(data),
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    fn whole(boundary: &str, body: &[u8]) -> Result<Vec<Event>, Malformed> {
        read(boundary, [body])
    }

    fn part(name: &str, content_type: Option<&str>) -> Event {
        Event::Part(PartHead { name: name.to_owned(), content_type: content_type.map(str::to_owned) })
    }

    const FORM: &[u8] =
        b"a preamble\r\n--b\r\nContent-Disposition: form-data; name=\"artifactType\"\r\n\r\nscreenshot\r\n\
--b \t\r\ncontent-type: image/png\r\nCONTENT-DISPOSITION: form-data; name=\"file\"; filename=\"a;\\\"b.png\"\r\n\r\n\
\x89PNG\r\n--\r\n--a\r\n--\r\n--b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--b--\r\nan epilogue";

    #[test]
    fn a_form_is_taken_apart() {
        let expected = vec![
            part("artifactType", None),
            Event::Data(b"screenshot".to_vec()),
            Event::PartEnd,
            part("file", Some("image/png")),
            Event::Data(b"\x89PNG\r\n--\r\n--a\r\n--".to_vec()),
            Event::PartEnd,
            part("empty", None),
            Event::PartEnd,
            Event::End,
        ];
        assert_eq!(whole("b", FORM), Ok(expected));
        assert_eq!(whole("b", b"--b--"), Ok(vec![Event::End]), "nothing but an end");
    }

    #[test]
    fn a_form_that_breaks_the_rules_is_refused_and_one_that_is_cut_off_has_no_end() {
        let long = format!("--b\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n", "x".repeat(9_000));
        let many = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\r\n".repeat(33);
        let blanks = format!("--b{}\r\n", " ".repeat(71));
        for body in [
            "--bx\r\n",
            "--b-x",
            "--b\r\n\r\n",
            "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: attachment; name=\"x\"\r\n\r\n",
            "--b\r\nContent-Disposition: form-data; filename=\"x\"\r\n\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"x\r\n\r\n",
            "--b\r\nno header\r\n\r\n",
            long.as_str(),
            many.as_str(),
            blanks.as_str(),
        ] {
            assert_eq!(whole("b", body.as_bytes()), Err(Malformed), "{body}");
        }
        for length in 0..FORM.len() - "--\r\nan epilogue".len() {
            let events = whole("b", &FORM[..length]).expect("a beginning breaks no rule");
            assert!(!events.contains(&Event::End), "{length} bytes have no end");
        }
    }

    #[test]
    fn a_boundary_is_read_from_the_type_of_the_body() {
        let longest = "x".repeat(70);
        for (text, boundary) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b:c\"", Some("a b:c")),
            (&format!("multipart/form-data; boundary={longest}"), Some(longest.as_str())),
            (&format!("multipart/form-data; boundary={longest}x"), None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary=\"a \"", None),
            ("multipart/form-data; boundary=\"a", None),
            ("multipart/form-data; boundary=\u{e4}", None),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
            ("application/json", None),
        ] {
            assert_eq!(boundary_of(text).as_deref(), boundary, "{text}");
        }
    }

    /// Bytes that are often nearly a boundary.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(b"\r\n--b".to_vec()),
            Just(b"\r\n--".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"--b--".to_vec()),
            Just(b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..5),
        ];
        proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
    }

    fn cut<'b>(body: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
        at.extend([0, body.len()]);
        at.sort_unstable();
        at.windows(2).map(|ends| &body[ends[0]..ends[1]]).collect()
    }

    proptest! {
        /// However a body is cut into pieces, what is read is the same.
        #[test]
        fn any_pieces_of_any_body_give_the_same(body in tricky(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
            let together = whole("b", &body);
            prop_assert_eq!(&read("b", cut(&body, &cuts)), &together);
            prop_assert_eq!(&read("b", body.chunks(1)), &together);
        }

        /// What a sender put into a form comes out of it, whatever it is.
        #[test]
        fn what_goes_in_comes_out(
            parts in proptest::collection::vec(tricky(), 0..5),
            cuts in proptest::collection::vec(any::<usize>(), 0..20),
        ) {
            // A sender takes a boundary that is in none of the parts.
            let boundary = "a-boundary-that-is-nowhere";
            let mut body = Vec::new();
            let mut expected = Vec::new();
            for (n, data) in parts.iter().enumerate() {
                body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"p{n}\"\r\n\r\n").bytes());
                body.extend(data);
                body.extend(b"\r\n");
                expected.push(part(&format!("p{n}"), None));
                if !data.is_empty() {
                    expected.push(Event::Data(data.clone()));
                }
                expected.push(Event::PartEnd);
            }
            body.extend(format!("--{boundary}--\r\n").bytes());
            expected.push(Event::End);
            prop_assert_eq!(read(boundary, cut(&body, &cuts)), Ok(expected));
        }
    }
}
