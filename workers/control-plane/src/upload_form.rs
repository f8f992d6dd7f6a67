//! A form with one file in it, on its way to the bucket: its size, its type and its fields are checked while it comes,
//! and no more of it is held than one part of an object.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use oi_protocol::{ErrorCode, limits};
use oi_session::file_type::{FileType, HEAD_BYTES};
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Refusal};
use worker::{ByteStream, Delay, Request};

use crate::media_store::PendingObject;
use crate::multipart::{Event, Malformed, MultipartReader, PartHead, boundary_of};
use crate::request::Cx;

/// Longest value of a field that is not the file, in bytes.
const FIELD_MAX_BYTES: usize = 8 * 1024;
/// A sender that sends nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// A body that is held already is taken in such pieces.
const PIECE_BYTES: usize = 64 * 1024;
/// The field that holds the file.
const FILE: &str = "file";

/// What a form may hold.
pub struct FormRules {
    /// Longest body, in bytes: the file and the form around it.
    pub max_body_bytes: usize,
    /// What a longer one is told, with 413.
    pub body_too_large: &'static str,
    /// Files that are taken.
    pub accepts: fn(FileType) -> bool,
    /// What another file is told, with 400.
    pub not_accepted: &'static str,
    /// What a file is told that is longer than its kind allows.
    pub file_too_large: (u16, &'static str),
    /// Code of a file that is not taken.
    pub code: ErrorCode,
}

enum Body<'c> {
    Stream(ByteStream),
    /// Of a signed request, whose signature is over all of it.
    Whole(&'c [u8]),
}

impl Body<'_> {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Whole(bytes) => {
                let (piece, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES));
                *bytes = rest;
                Ok((!piece.is_empty()).then(|| piece.to_vec()))
            }
            Self::Stream(stream) => match select(stream.next(), Delay::from(PATIENCE)).await {
                Either::Left((None, _)) => Ok(None),
                Either::Left((Some(piece), _)) => {
                    piece.map(Some).map_err(|_| Refusal::invalid_body("The request body was cut off").into())
                }
                Either::Right(_) => {
                    let sentence = "The request body stopped coming. Send it again.";
                    Err(Refusal::new(408, ErrorCode::Retry, sentence).into())
                }
            },
        }
    }
}

/// A form that is being read.
pub struct UploadForm<'c> {
    rules: &'static FormRules,
    body: Body<'c>,
    reader: MultipartReader,
    taken: usize,
    /// Of the file: its first bytes, and whether those are all.
    head: Vec<u8>,
    is_all: bool,
    fields: BTreeMap<String, String>,
}

impl<'c> UploadForm<'c> {
    /// The form that a request has.
    pub fn open(cx: &'c Cx<'_>, rules: &'static FormRules) -> Result<Self, Failure> {
        let content_type = cx.head.header("Content-Type").unwrap_or_default();
        let boundary = boundary_of(&content_type)
            .ok_or_else(|| Refusal::invalid_body("The request body must be multipart/form-data"))?;
        let announced = cx.head.header("Content-Length").and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|length| length > rules.max_body_bytes) {
            return Err(Self::too_large(rules).into());
        }
        let body = match &cx.stream {
            Some(request) if request.inner().body().is_some() => {
                // The same request: only its handle is copied.
                let mut request = Request::from(Clone::clone(request.inner()));
                Body::Stream(request.stream().map_err(while_doing("reading a body"))?)
            }
            _ => Body::Whole(&cx.body),
        };
        let reader = MultipartReader::new(&boundary);
        let (head, fields) = (Vec::new(), BTreeMap::new());
        Ok(Self { rules, body, reader, taken: 0, head, is_all: false, fields })
    }

    fn too_large(rules: &FormRules) -> Refusal {
        Refusal::new(413, ErrorCode::TooLarge, rules.body_too_large)
    }

    fn refuse(&self, sentence: &'static str) -> Failure {
        Refusal::new(400, self.rules.code, sentence).into()
    }

    async fn event(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.reader.next_event().map_err(Refusal::from)? {
                return Ok(event);
            }
            let piece = self.body.next().await?.ok_or_else(|| Refusal::from(Malformed))?;
            self.taken += piece.len();
            if self.taken > self.rules.max_body_bytes {
                return Err(Self::too_large(self.rules).into());
            }
            self.reader.push(&piece);
        }
    }

    async fn take_field(&mut self, head: PartHead) -> Result<(), Failure> {
        let mut value = Vec::new();
        while let Event::Data(data) = self.event().await? {
            if value.len() + data.len() > FIELD_MAX_BYTES {
                return Err(Refusal::invalid_body("A field of the form is too long").into());
            }
            value.extend(data);
        }
        let value = String::from_utf8(value).map_err(|_| Refusal::invalid_body("A field of the form is not text"))?;
        self.fields.insert(head.name, value);
        Ok(())
    }

    /// Reads up to the file and says what it is by its first bytes. Nothing was stored yet.
    pub async fn find_file(&mut self) -> Result<FileType, Failure> {
        let declared = loop {
            match self.event().await? {
                Event::Part(head) if head.name == FILE => break head.content_type,
                Event::Part(head) => self.take_field(head).await?,
                Event::Data(_) | Event::PartEnd => return Err(Refusal::from(Malformed).into()),
                Event::End => return Err(self.refuse("The form has no field `file`")),
            }
        };
        while self.head.len() < HEAD_BYTES && !self.is_all {
            match self.event().await? {
                Event::Data(data) => self.head.extend(data),
                _ => self.is_all = true,
            }
        }
        if self.head.is_empty() {
            return Err(self.refuse("The file is empty"));
        }
        let found = FileType::of_head(&self.head).filter(|found| (self.rules.accepts)(*found));
        let found = found.ok_or_else(|| self.refuse(self.rules.not_accepted))?;
        if declared.is_some_and(|declared| FileType::of_mime(&declared) != Some(found)) {
            return Err(self.refuse("The file is not of the type that it is declared as"));
        }
        Ok(found)
    }

    /// Writes the file that was found and reads the form to its end. Gives the file's length.
    pub async fn receive(&mut self, file_type: FileType, object: &mut PendingObject<'_>) -> Result<usize, Failure> {
        let mut data = std::mem::take(&mut self.head);
        let mut length = 0;
        loop {
            length += data.len();
            if length > file_type.max_bytes() {
                let (status, sentence) = self.rules.file_too_large;
                let code = if status == 413 { ErrorCode::TooLarge } else { self.rules.code };
                return Err(Refusal::new(status, code, sentence).into());
            }
            object.write(&data).await?;
            if self.is_all {
                break;
            }
            match self.event().await? {
                Event::Data(more) => data = more,
                _ => break,
            }
        }
        loop {
            match self.event().await? {
                Event::Part(head) if head.name == FILE => return Err(self.refuse("The form has more than one file")),
                Event::Part(head) => self.take_field(head).await?,
                Event::Data(_) | Event::PartEnd => return Err(Refusal::from(Malformed).into()),
                Event::End => return Ok(length),
            }
        }
    }

    /// The fields beside the file; all of them once it was received.
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.fields
    }
}

/// The longest body of a form with a file of this length.
pub const fn body_bytes(file_bytes: usize) -> usize {
    file_bytes + limits::UPLOAD_FORM_MAX_BYTES
}
