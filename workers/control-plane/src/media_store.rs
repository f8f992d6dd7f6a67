//! Files of sessions in R2. Keys are those of `oi_session::storage_keys`. What is large passes as a stream of the
//! platform, from the request to the bucket and from the bucket to the answer, and never enters the Worker's memory; but
//! for what is in a form, of which one part is held at a time.

use oi_worker_kit::failure::while_doing;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal};
use worker::{
    Bucket, Env, Headers, HttpMetadata, MultipartUpload, Range, Request, Response, ResponseBuilder, UploadedPart,
};

/// Objects listed and deleted by one call each.
const DELETE_MAX: u32 = 500;

/// The bucket.
pub struct MediaStore {
    bucket: Bucket,
}

/// What an object is written with.
#[derive(Debug, Clone, Copy)]
pub struct ContentType(pub &'static str);

fn not_stored(doing: &'static str, error: &worker::Error) -> Failure {
    // What was sent may have been cut off on its way, or the bucket failed: a repetition helps with either.
    Line::warn("control-plane", "storage.write_failed").with("doing", doing).with("error", error.to_string()).write();
    Refusal::new(503, oi_protocol::ErrorCode::Retry, "The file could not be stored. Send it again.").into()
}

impl MediaStore {
    /// The bucket of the deployment.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        let bucket = env.bucket("MEDIA_BUCKET");
        Ok(Self { bucket: bucket.map_err(|_| Refusal::not_configured("MEDIA_BUCKET is not bound"))? })
    }

    fn metadata(content_type: ContentType) -> HttpMetadata {
        HttpMetadata { content_type: Some(content_type.0.to_owned()), ..HttpMetadata::default() }
    }

    /// Writes a request's body as it comes in. Its length must be announced and is the platform's to hold.
    pub async fn put_request(&self, key: &str, request: &Request, content_type: ContentType) -> Result<(), Failure> {
        let metadata = Self::metadata(content_type);
        let put = match request.inner().body() {
            Some(stream) => self.bucket.put(key, stream).http_metadata(metadata).execute().await,
            None => self.bucket.put(key, Vec::new()).http_metadata(metadata).execute().await,
        };
        put.map(drop).map_err(|error| not_stored("writing a request's body", &error))
    }

    /// Writes bytes that are small.
    pub async fn put_bytes(&self, key: &str, bytes: Vec<u8>, content_type: ContentType) -> Result<(), Failure> {
        let put = self.bucket.put(key, bytes).http_metadata(Self::metadata(content_type)).execute().await;
        put.map(drop).map_err(|error| not_stored("writing an object", &error))
    }

    /// An object's text, when it is there. For what is known to be small.
    pub async fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        let found = self.bucket.get(key).execute().await.map_err(while_doing("reading an object"))?;
        let Some(found) = found else { return Ok(None) };
        let Some(body) = found.body() else { return Ok(None) };
        body.text().await.map(Some).map_err(while_doing("reading an object"))
    }

    /// Begins an object of which neither the bytes nor their number are known yet.
    pub fn begin(&self, key: String, content_type: ContentType) -> PendingObject<'_> {
        PendingObject { bucket: &self.bucket, key, content_type, held: Vec::new(), upload: None, parts: Vec::new() }
    }

    /// Deletes objects. One that is not there counts as deleted.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), Failure> {
        self.bucket.delete_multiple(keys).await.map_err(while_doing("deleting objects"))
    }

    /// Answers with an object, or with the part of it that `range` names (of the header `Range`, one range only). A
    /// page that was made by the agent must not run as one of ours: nothing is rendered but what is asked for inline.
    pub async fn serve(&self, key: &str, range: Option<&str>, served: &Served<'_>) -> Result<Response, Failure> {
        let missing = || Failure::from(Refusal::not_found(served.missing.to_owned()));
        let found = self.bucket.head(key).await.map_err(while_doing("looking for an object"))?;
        let size = found.ok_or_else(missing)?.size();
        let wanted = match range {
            Some(text) => ByteRange::parse(text, size),
            None => ByteRange::Whole,
        };
        let headers = Headers::new();
        let set = |name: &str, value: &str| headers.set(name, value).map_err(while_doing("writing a header"));
        set("Content-Type", served.content_type)?;
        set("Content-Disposition", served.disposition)?;
        set("Content-Security-Policy", "default-src 'none'; sandbox")?;
        set("X-Content-Type-Options", "nosniff")?;
        set("Cross-Origin-Resource-Policy", "same-origin")?;
        set("Accept-Ranges", "bytes")?;
        set("Cache-Control", "private, max-age=300")?;
        let get = self.bucket.get(key);
        let (status, get, length) = match wanted {
            ByteRange::Whole => (200, get, size),
            ByteRange::Part { first, last } => {
                set("Content-Range", &format!("bytes {first}-{last}/{size}"))?;
                let length = last - first + 1;
                (206, get.range(Range::OffsetWithLength { offset: first, length }), length)
            }
            ByteRange::Beyond => {
                set("Content-Range", &format!("bytes */{size}"))?;
                set("Content-Type", "text/plain; charset=utf-8")?;
                return Ok(ResponseBuilder::new().with_status(416).with_headers(headers).fixed(Vec::new()));
            }
        };
        set("Content-Length", &length.to_string())?;
        let Some(object) = get.execute().await.map_err(while_doing("reading an object"))? else {
            return Err(missing());
        };
        let Some(body) = object.body() else { return Err(missing()) };
        let body = body.response_body().map_err(while_doing("reading an object"))?;
        Ok(ResponseBuilder::new().with_status(status).with_headers(headers).body(body))
    }

    /// Deletes what is below a prefix, in `pages` pages at most. Says whether nothing is left.
    pub async fn delete_below(&self, prefix: &str, pages: usize) -> Result<bool, Failure> {
        for _ in 0..pages {
            let page = self.bucket.list().prefix(prefix).limit(DELETE_MAX).execute().await;
            let page = page.map_err(while_doing("listing objects"))?;
            let keys: Vec<String> = page.objects().iter().map(worker::Object::key).collect();
            if !keys.is_empty() {
                self.bucket.delete_multiple(keys).await.map_err(while_doing("deleting objects"))?;
            }
            if !page.truncated() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Bytes of each part of an object that is written in parts: the least that R2 allows, and the most that is held.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// An object that is being written, seen by nobody before it is finished.
///
/// R2 takes a stream only if its length is known before, and what a form holds is not: other fields may follow the
/// file. So a file goes there in parts as it comes, and one that is shorter than a part goes at once. What is neither
/// finished nor abandoned, since its Worker died, R2 drops by itself after a week.
pub struct PendingObject<'b> {
    bucket: &'b Bucket,
    key: String,
    content_type: ContentType,
    /// Less than a part.
    held: Vec<u8>,
    upload: Option<MultipartUpload>,
    parts: Vec<UploadedPart>,
}

impl PendingObject<'_> {
    /// Where it is going to be.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Adds bytes to its end.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while self.held.len() + bytes.len() >= PART_BYTES {
            let (fits, rest) = bytes.split_at(PART_BYTES - self.held.len());
            self.held.extend_from_slice(fits);
            bytes = rest;
            self.send_part().await.map_err(|error| not_stored("writing a part of an object", &error))?;
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    async fn send_part(&mut self) -> worker::Result<()> {
        let upload = if let Some(upload) = self.upload.take() {
            upload
        } else {
            let create = self.bucket.create_multipart_upload(self.key.as_str());
            create.http_metadata(MediaStore::metadata(self.content_type)).execute().await?
        };
        let upload = self.upload.insert(upload);
        let number = self.parts.len() as u16 + 1;
        self.parts.push(upload.upload_part(number, std::mem::take(&mut self.held)).await?);
        Ok(())
    }

    /// Makes it an object.
    pub async fn finish(mut self) -> Result<(), Failure> {
        let failed = |error: worker::Error| not_stored("finishing an object", &error);
        if self.upload.is_some()
            && !self.held.is_empty()
            && let Err(error) = self.send_part().await
        {
            self.abandon().await;
            return Err(failed(error));
        }
        if let Some(upload) = self.upload {
            return upload.complete(self.parts).await.map(drop).map_err(failed);
        }
        let put = self.bucket.put(self.key, self.held).http_metadata(MediaStore::metadata(self.content_type));
        put.execute().await.map(drop).map_err(failed)
    }

    /// Forgets what was written.
    pub async fn abandon(self) {
        if let Some(upload) = self.upload
            && let Err(error) = upload.abort().await
        {
            let line = Line::warn("control-plane", "storage.abort_failed");
            line.with("key", &self.key).with("error", error.to_string()).write();
        }
    }
}

/// How an object is shown.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// `Content-Type`
    pub content_type: &'a str,
    /// `Content-Disposition`
    pub disposition: &'a str,
    /// The sentence when it is not there.
    pub missing: &'a str,
}

/// What of an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteRange {
    Whole,
    /// Both included.
    Part {
        first: u64,
        last: u64,
    },
    Beyond,
}

impl ByteRange {
    /// One range of bytes; anything else asks for the whole, as HTTP has it.
    fn parse(text: &str, size: u64) -> Self {
        let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Whole;
        };
        match (first.trim().parse::<u64>(), last.trim()) {
            (Ok(first), "") if first < size => Self::Part { first, last: size - 1 },
            (Ok(first), last) => match last.parse::<u64>() {
                Ok(last) if last < first => Self::Whole,
                Ok(last) if first < size => Self::Part { first, last: last.min(size - 1) },
                Ok(_) => Self::Beyond,
                Err(_) if last.is_empty() => Self::Beyond,
                Err(_) => Self::Whole,
            },
            (Err(_), suffix) if first.trim().is_empty() => match suffix.parse::<u64>() {
                Ok(0) => Self::Beyond,
                Ok(_) if size == 0 => Self::Beyond,
                Ok(suffix) => Self::Part { first: size.saturating_sub(suffix), last: size - 1 },
                Err(_) => Self::Whole,
            },
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_what_is_no_range_asks_for_all() {
        let part = |first, last| ByteRange::Part { first, last };
        for (text, expected) in [
            ("bytes=0-9", part(0, 9)),
            ("bytes=5-", part(5, 99)),
            ("bytes=90-500", part(90, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-500", part(0, 99)),
            ("bytes=100-", ByteRange::Beyond),
            ("bytes=100-200", ByteRange::Beyond),
            ("bytes=-0", ByteRange::Beyond),
            ("bytes=9-5", ByteRange::Whole),
            ("bytes=0-1,4-5", ByteRange::Whole),
            ("bytes=a-b", ByteRange::Whole),
            ("lines=0-1", ByteRange::Whole),
            ("", ByteRange::Whole),
        ] {
            assert_eq!(ByteRange::parse(text, 100), expected, "{text}");
        }
        assert_eq!(ByteRange::parse("bytes=-5", 0), ByteRange::Beyond);
        assert_eq!(ByteRange::parse("bytes=0-", 0), ByteRange::Beyond);
    }
}
