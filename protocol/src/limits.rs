//! Limits of the wire. Text lengths count UTF-16 code units; sizes count bytes.

/// Longest prompt, in UTF-16 code units.
pub const PROMPT_MAX_UTF16: usize = 64_000;
/// Attachments of one prompt.
pub const PROMPT_MAX_ATTACHMENTS: usize = 6;
/// Longest answer to a question of the agent, in UTF-16 code units.
pub const ANSWER_MAX_UTF16: usize = 16_000;
/// Pending and processing prompts of one session.
pub const MAX_UNFINISHED_PROMPTS: usize = 10;
/// Longest `clientRequestId` and `Idempotency-Key`, in UTF-16 code units.
pub const CLIENT_REQUEST_ID_MAX_UTF16: usize = 128;
/// Longest `clientId` of a subscription, in UTF-16 code units.
pub const CLIENT_ID_MAX_UTF16: usize = 128;
/// Largest frame that a client may send, in bytes.
pub const CLIENT_FRAME_MAX_BYTES: usize = 256 * 1024;
/// Largest frame that a sandbox may send, in bytes.
pub const SANDBOX_FRAME_MAX_BYTES: usize = 1024 * 1024;
/// Largest page or snapshot that the session sends, in bytes of event bodies.
pub const PAGE_MAX_BYTES: usize = 512 * 1024;
/// Events of a snapshot, and rows of a resume, at most.
pub const REPLAY_MAX_EVENTS: usize = 500;
/// Default page of `fetch_history`.
pub const HISTORY_DEFAULT_EVENTS: usize = 200;
/// Least time between two accepted `fetch_history` of a socket, in ms.
pub const HISTORY_MIN_INTERVAL_MS: i64 = 200;
/// Open text of one session held in memory, in bytes.
pub const OPEN_TEXT_MAX_BYTES: usize = 256 * 1024;
/// Inline tool output that is kept, in bytes; more is cut to head and tail.
pub const TOOL_OUTPUT_MAX_BYTES: usize = 256 * 1024;
/// Tool output over this is stored as a file, and the event holds its ends, in bytes.
pub const TOOL_OUTPUT_INLINE_BYTES: usize = 32 * 1024;
/// Largest tool output that is stored as a file, in bytes.
pub const OUTPUT_FILE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Tool outputs that one session stores as files, at most.
pub const OUTPUT_FILES_MAX: i64 = 10_000;
/// Bytes of tool output that one session stores as files, at most.
pub const OUTPUT_FILES_MAX_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// Life of a client token, in ms.
pub const CLIENT_TOKEN_LIFE_MS: i64 = 86_400_000;
/// Ports of a sandbox that are open to people, at most.
pub const TUNNEL_PORTS_MAX: usize = 10;
/// Largest prompt queue that a snapshot or a change of the queue shows, in bytes of the prompts' text; longer prompts are
/// cut in it, and `GET /sessions/:id/messages` has the whole.
pub const QUEUE_TEXT_MAX_BYTES: usize = 256 * 1024;
/// A prompt that is cut in a queue keeps this much, in bytes.
pub const QUEUE_CUT_BYTES: usize = 8 * 1024;
/// Artifacts of a snapshot; `GET /sessions/:id/artifacts` has the older ones.
pub const ARTIFACTS_MAX: usize = 100;
/// Their size, in bytes.
pub const ARTIFACTS_MAX_BYTES: usize = 128 * 1024;
/// Longest text that is searched for, in UTF-16 code units.
pub const SEARCH_QUERY_MAX_UTF16: usize = 256;
/// Longest session title, in UTF-16 code units.
pub const TITLE_MAX_UTF16: usize = 200;
/// Largest file of a prompt, in bytes.
pub const ATTACHMENT_MAX_BYTES: usize = 10 * 1024 * 1024;
/// What the form around a file may take, in bytes.
pub const UPLOAD_FORM_MAX_BYTES: usize = 128 * 1024;
/// Prompt files that one session keeps, at most.
pub const ATTACHMENTS_MAX: i64 = 100;
/// Bytes of prompt files that one session keeps, at most.
pub const ATTACHMENTS_MAX_BYTES: i64 = 500 * 1024 * 1024;
/// A file that no prompt took is kept this long, in ms.
pub const ATTACHMENT_UNUSED_MS: i64 = 86_400_000;
/// Who deletes such files has this long, in ms; then somebody else may.
pub const ATTACHMENT_CLEANUP_MS: i64 = 300_000;
/// Files that are deleted by one clean-up, at most.
pub const ATTACHMENT_CLEANUP_MAX: usize = 50;
/// Largest screenshot, in bytes.
pub const SCREENSHOT_MAX_BYTES: usize = 10 * 1024 * 1024;
/// Screenshots that one session keeps, at most.
pub const SCREENSHOTS_MAX: i64 = 100;
/// Largest recording, in bytes.
pub const VIDEO_MAX_BYTES: usize = 100 * 1024 * 1024;
/// Recordings that one session keeps, at most.
pub const VIDEOS_MAX: i64 = 20;
/// Longest recording, in ms.
pub const VIDEO_MAX_MS: i64 = 90_000;
/// Largest diff bundle as it is sent, in bytes.
pub const DIFF_BUNDLE_MAX_BYTES: usize = 1_572_864;
/// Patches of one bundle, in bytes of text.
pub const DIFF_PATCHES_MAX_BYTES: usize = 1_048_576;
/// Longest patch of one file, in bytes of text.
pub const DIFF_PATCH_MAX_BYTES: usize = 524_288;
/// Files of one bundle.
pub const DIFF_MAX_FILES: usize = 1_000;
/// Repositories of one bundle.
pub const DIFF_MAX_REPOSITORIES: usize = 10;
/// Longest path in a bundle, in UTF-16 code units.
pub const DIFF_PATH_MAX_UTF16: usize = 4_096;
/// Longest name of a revision or a file, in bytes.
pub const DIFF_ID_MAX_BYTES: usize = 200;
/// Longest reason why there is no diff, in UTF-16 code units.
pub const DIFF_ERROR_MAX_UTF16: usize = 2_000;
/// Largest report of such a reason, in bytes.
pub const DIFF_FAILURE_MAX_BYTES: usize = 16_384;
