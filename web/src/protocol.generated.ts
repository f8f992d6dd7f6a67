// Generated from the Rust types in `protocol` by `cargo xtask types`. Do not edit.

/**
 * Answer of `GET /api/config`
 */
export type AppConfig = { 
/**
 * The product's name in this deployment.
 */
appName: string, 
/**
 * `github`, `google`, in that order.
 */
signInProviders: Array<string>, 
/**
 * Whether the only model is the scripted one.
 */
demoModel: boolean, };

/**
 * Something the session produced.
 */
export type ArtifactEvent = { 
/**
 * `pr`, `screenshot`, `video`, `preview` or `branch`.
 */
artifactType: string, 
/**
 * The artifact's row.
 */
artifactId?: string, 
/**
 * Where it is.
 */
url: string, 
/**
 * What is known of it.
 */
metadata?: Record<string, unknown>, 
/**
 * The prompt that made it.
 */
messageId?: MessageId, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Something a session produced: a pull request, a screenshot.
 */
export type ArtifactId = string;

/**
 * Kinds of artifact.
 */
export type ArtifactType = "pr" | "screenshot" | "video" | "preview" | "branch";

/**
 * A file that was uploaded before, by reference.
 */
export type AttachmentRef = { 
/**
 * The upload.
 */
attachmentId: string, 
/**
 * The name to show, 1 to 255 units.
 */
name: string, };

/**
 * Answer of `POST /sessions/:id/attachments`
 */
export type AttachmentResponse = { 
/**
 * For a prompt of this session, within a day.
 */
attachmentId: string, 
/**
 * What it is, as its first bytes told.
 */
mimeType: string, };

/**
 * What did something.
 */
export type AuditActorKind = "person" | "token" | "service" | "sandbox" | "system";

/**
 * An entry of the audit log.
 */
export type AuditEntry = { 
/**
 * Grows.
 */
id: number, 
/**
 * When.
 */
at: UnixMillis, 
/**
 * What did it.
 */
actorKind: AuditActorKind, 
/**
 * The person, or whom a service acted for.
 */
actorId: string | null, 
/**
 * Their name as it is now.
 */
actorName: string | null, 
/**
 * The token or the service that it was done by.
 */
via: string | null, 
/**
 * What was done: `role.set`, `secret.delete`.
 */
action: string, 
/**
 * To what: `person`, `session`, `secret`.
 */
subjectKind: string, 
/**
 * Which.
 */
subjectId: string, 
/**
 * What else there is to know; never a value.
 */
detail: Record<string, unknown> | null, 
/**
 * The request that did it, as the logs name it.
 */
requestId: string | null, };

/**
 * Answer of `GET /audit-log`
 */
export type AuditLog = { 
/**
 * The newest first.
 */
entries: Array<AuditEntry>, 
/**
 * For the next page, when there is one.
 */
cursor?: string, };

/**
 * Who wrote a prompt.
 */
export type Author = { 
/**
 * Within the session.
 */
participantId: ParticipantId, 
/**
 * Across sessions.
 */
userId?: string, 
/**
 * The name to show.
 */
name: string, 
/**
 * A picture's URL.
 */
avatar?: string, };

/**
 * A phase of the sandbox's start (dialect 2).
 */
export type BootProgress = { 
/**
 * `workspace`, `clone`, `setup`, `agent`, ...
 */
phase: string, 
/**
 * Where it is.
 */
status: BootStatus, 
/**
 * When it began.
 */
startedAt: UnixMillis, 
/**
 * How long it took, in ms.
 */
durationMs?: number, 
/**
 * A sentence more.
 */
detail?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * State of a boot phase.
 */
export type BootStatus = "started" | "completed" | "failed";

/**
 * A branch of a repository.
 */
export type Branch = { 
/**
 * Its name.
 */
name: string, };

/**
 * Answer of `GET /repos/:owner/:name/branches`: the first 500, or with `?page=` one page of at most a hundred.
 */
export type BranchList = { 
/**
 * In the code host's order.
 */
branches: Array<Branch>, 
/**
 * The last page that is in it, from 1, a hundred branches each.
 */
page: number, 
/**
 * Whether another page follows.
 */
hasMore: boolean, };

/**
 * `PATCH /people/:id`
 */
export type ChangePerson = { 
/**
 * What they may do from now on.
 */
role: Role, };

/**
 * What a client may send.
 */
export type ClientMessage = { "type": "ping" } | { "type": "subscribe", 
/**
 * Token of `POST /sessions/:id/ws-token`.
 */
token: string, 
/**
 * The client's own name for this page.
 */
clientId: string, 
/**
 * 2 asks for dialect 2.
 */
dialect?: number, 
/**
 * Resume after this revision (dialect 2).
 */
afterRevision?: number, } | { "type": "prompt", 
/**
 * Makes a repetition harmless; 1 to 128 units.
 */
clientRequestId: string, 
/**
 * At most 64 000 units.
 */
content: string, 
/**
 * `provider/model`.
 */
model?: string, 
/**
 * How hard to think.
 */
reasoningEffort?: string, 
/**
 * At most 6.
 */
attachments?: Array<AttachmentRef>, } | { "type": "cancel_prompt", 
/**
 * The prompt.
 */
messageId: string, 
/**
 * Echoed in the answer.
 */
clientRequestId: string, } | { "type": "edit_prompt", 
/**
 * The prompt.
 */
messageId: string, 
/**
 * Makes a repetition harmless; 1 to 128 units.
 */
clientRequestId: string, 
/**
 * The new text, at most 64 000 units.
 */
content: string, 
/**
 * `provider/model`; absent: as it was.
 */
model?: string, 
/**
 * How hard to think; absent: as it was.
 */
reasoningEffort?: string, } | { "type": "reorder_prompts", 
/**
 * Each once, 1 to 10.
 */
messageIds: Array<string>, 
/**
 * Makes a repetition harmless; 1 to 128 units.
 */
clientRequestId: string, } | { "type": "send_now", 
/**
 * The prompt.
 */
messageId: string, 
/**
 * Makes a repetition harmless; 1 to 128 units.
 */
clientRequestId: string, } | { "type": "input_response", 
/**
 * The question.
 */
requestId: string, 
/**
 * The answer, 1 to 16 000 units.
 */
answer: string, 
/**
 * Makes a repetition harmless; 1 to 128 units.
 */
clientRequestId: string, } | { "type": "stop" } | { "type": "typing" } | { "type": "presence", 
/**
 * `active` or `idle`.
 */
status: PresenceStatus, } | { "type": "fetch_history", 
/**
 * Oldest row that the client has.
 */
cursor?: HistoryCursor, 
/**
 * 1 to 500; 200 by default.
 */
limit?: number, };

/**
 * The agent compacted its context.
 */
export type ContextCompacted = { 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * `POST /api/me/tokens`
 */
export type CreatePersonalToken = { 
/**
 * 1 to 100 units, for its owner.
 */
name: string, 
/**
 * At least one.
 */
scopes: Array<TokenScope>, 
/**
 * Life in days, 1 to 366.
 */
expiresInDays: number, };

/**
 * `POST /sessions`
 */
export type CreateSessionRequest = { 
/**
 * Owner; together with the name.
 */
repoOwner?: string | null, 
/**
 * Name; together with the owner.
 */
repoName?: string | null, 
/**
 * Base branch; the repository's default when absent.
 */
branch?: string, 
/**
 * 1 to 200 units.
 */
title?: string, 
/**
 * `provider/model`
 */
model?: string, 
/**
 * How hard to think.
 */
reasoningEffort?: string, 
/**
 * Several repositories, the primary first, in place of the one above.
 */
repositories?: Array<WantedRepository> | null, 
/**
 * An environment, in place of both.
 */
environmentId?: EnvironmentId | null, };

/**
 * Answer of `POST /sessions`
 */
export type CreateSessionResponse = { 
/**
 * The new session.
 */
sessionId: SessionId, 
/**
 * `created`
 */
status: SessionStatus, };

/**
 * Answer of `POST /api/me/tokens`: the only time that the token is shown.
 */
export type CreatedPersonalToken = { 
/**
 * `oi_pat_` and 64 hex digits.
 */
token: string, 
/**
 * The rest of it.
 */
personalToken: PersonalToken, };

/**
 * A device that waits for its person.
 */
export type DeviceAuthorization = { 
/**
 * 64 hex digits.
 */
transactionId: string, 
/**
 * `openai` or `xai`
 */
provider: string, 
/**
 * `create` or `reconnect`
 */
operation: string, 
/**
 * What the person types.
 */
userCode: string, 
/**
 * Where.
 */
verificationUrl: string, 
/**
 * When it is over.
 */
expiresAt: UnixMillis, 
/**
 * The same from now.
 */
expiresInMs: number, 
/**
 * How often to poll.
 */
pollIntervalMs: number, };

/**
 * Why the newest attempt gave no bundle.
 */
export type DiffError = { 
/**
 * The sentence.
 */
message: string, 
/**
 * When it was reported.
 */
occurredAt: UnixMillis, };

/**
 * A file that changed. A bundle's has its patch, a manifest's has not.
 */
export type DiffFile = { 
/**
 * Unique in the bundle: 1 to 200 of `A-Z a-z 0-9 . _ -`.
 */
id: string, 
/**
 * From the checkout's root; 1 to 4096 UTF-16 units.
 */
path: string, 
/**
 * Where it was; only of what was renamed.
 */
oldPath?: string, 
/**
 * What happened.
 */
status: DiffFileStatus, 
/**
 * Lines; null when nobody counted.
 */
additions: number | null, 
/**
 * Lines; null when nobody counted.
 */
deletions: number | null, 
/**
 * Whether it can be shown.
 */
renderState: DiffRenderState, 
/**
 * The patch: exactly of what is renderable. Never in a manifest.
 */
patch?: string, 
/**
 * Mode before, when it changed.
 */
oldMode?: string, 
/**
 * Mode now, when it changed.
 */
newMode?: string, 
/**
 * Commit of a submodule before.
 */
oldSubmoduleSha?: string, 
/**
 * Commit of a submodule now.
 */
newSubmoduleSha?: string, };

/**
 * What happened to a file.
 */
export type DiffFileStatus = "added" | "modified" | "deleted" | "renamed" | "type_changed" | "unmerged" | "submodule";

/**
 * A bundle that was stored, without its patches.
 */
export type DiffManifest = { 
/**
 * Names it; each bundle has another.
 */
revisionId: string, 
/**
 * The prompt after which it was taken; null when somebody asked for it.
 */
triggerMessageId: string | null, 
/**
 * When it was taken.
 */
capturedAt: UnixMillis, 
/**
 * Every repository of the session.
 */
repositories: Array<DiffRepository>, };

/**
 * Whether a file's change can be shown.
 */
export type DiffRenderState = "renderable" | "binary" | "too_large" | "metadata_only";

/**
 * What changed in one repository of the session.
 */
export type DiffRepository = { "status": "ready", 
/**
 * Place in the session's list.
 */
position: number, 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * Commit that the session started from.
 */
baseSha: string, 
/**
 * Commit that is checked out.
 */
headSha: string, 
/**
 * Whether patches or files were left out.
 */
truncated: boolean, 
/**
 * Files that were left out.
 */
omittedFileCount: number, 
/**
 * Those that were not.
 */
files: Array<DiffFile>, } | { "status": "unavailable", 
/**
 * Place in the session's list.
 */
position: number, 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * Commit that the session started from, when it is known.
 */
baseSha?: string | null, 
/**
 * Why; 1 to 2000 UTF-16 units.
 */
error: string, 
/**
 * None.
 */
files: Array<DiffFile>, };

/**
 * Answer of `GET /sessions/:id/diff`
 */
export type DiffState = { 
/**
 * 1
 */
version: number, 
/**
 * The newest bundle.
 */
current: DiffManifest | null, 
/**
 * Why no newer one came.
 */
lastError: DiffError | null, 
/**
 * Why there can be none.
 */
unavailableReason: string | null, };

/**
 * An environment: repositories that are worked on together, with secrets of their own.
 */
export type Environment = { 
/**
 * Id.
 */
id: EnvironmentId, 
/**
 * One of its kind, whatever its case.
 */
name: string, 
/**
 * What it is for.
 */
description: string | null, 
/**
 * Whether images are built ahead.
 */
prebuildEnabled: boolean, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it was last changed.
 */
updatedAt: UnixMillis, 
/**
 * Chat channels whose sessions use it.
 */
channelAssociations?: Array<string>, 
/**
 * In order; the first is the primary.
 */
repositories: Array<EnvironmentRepository>, 
/**
 * Grows with each change; sent with one, it refuses what somebody else has changed since.
 */
version: number, };

/**
 * Answer of `POST /environments` and of `GET` and `PUT /environments/:id`
 */
export type EnvironmentAnswer = { 
/**
 * It.
 */
environment: Environment, };

/**
 * The id of an environment: `env_` and more.
 */
export type EnvironmentId = string;

/**
 * Answer of `GET /environments`
 */
export type EnvironmentList = { 
/**
 * Newest first.
 */
environments: Array<Environment>, 
/**
 * How many there are.
 */
total: number, 
/**
 * Pass as `cursor` for the next page.
 */
nextCursor?: string, };

/**
 * A repository of an environment.
 */
export type EnvironmentRepository = { 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * The forge's number for it.
 */
repoId: number | null, 
/**
 * Branch that work starts from.
 */
baseBranch: string, };

/**
 * The body of every REST refusal. `error` is the sentence for people; `code` is stable.
 */
export type ErrorBody = { 
/**
 * What happened and what to do, in a sentence.
 */
error: string, 
/**
 * The stable code.
 */
code: ErrorCode, 
/**
 * Finds the request in the logs.
 */
requestId?: string, };

/**
 * Stable codes of refusals, on the sockets and in REST bodies.
 */
export type ErrorCode = "INVALID_MESSAGE" | "INVALID_PROMPT" | "INVALID_ATTACHMENTS" | "SESSION_NOT_PROMPTABLE" | "PROMPT_QUEUE_FULL" | "PROMPT_REQUEST_CONFLICT" | "PROMPT_NOT_CANCELLABLE" | "PROMPT_NOT_WAITING" | "INPUT_NOT_WAITING" | "BUDGET_EXCEEDED" | "INVALID_CURSOR" | "RATE_LIMITED" | "FORBIDDEN" | "INVALID_BODY" | "INVALID_PARAMETER" | "UNAUTHORIZED" | "NOT_FOUND" | "CONFLICT" | "TOO_LARGE" | "METHOD_NOT_ALLOWED" | "SANDBOX_GONE" | "UPSTREAM_FAILED" | "RETRY" | "NOT_CONFIGURED" | "NOT_IMPLEMENTED" | "INTERNAL" | "diff_revision_stale" | "diff_file_not_found";

/**
 * Something went wrong within a run.
 */
export type ErrorEvent = { 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * What went wrong.
 */
error: string, 
/**
 * Whether it happened in a sub-agent.
 */
isSubtask?: boolean, 
/**
 * The sub-agent's session, as the agent names it.
 */
childSessionId?: string, 
/**
 * The task call that started the sub-agent.
 */
taskCallId?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * One stored event of the timeline.
 */
export type Event = { "type": "user_message" } & UserMessage | { "type": "part" } & Part | { "type": "tool_call" } & ToolCall | { "type": "step_start" } & StepStart | { "type": "step_finish" } & StepFinish | { "type": "context_compacted" } & ContextCompacted | { "type": "error" } & ErrorEvent | { "type": "execution_complete" } & ExecutionComplete | { "type": "ready" } & Ready | { "type": "boot_progress" } & BootProgress | { "type": "warning" } & Warning | { "type": "git_sync" } & GitSync | { "type": "push_complete" } & PushComplete | { "type": "push_error" } & PushError | { "type": "artifact" } & ArtifactEvent | { "type": "input_request" } & InputRequest;

/**
 * A prompt reached its terminal state.
 */
export type ExecutionComplete = { 
/**
 * The prompt.
 */
messageId: MessageId, 
/**
 * Whether the agent finished without an error.
 */
success: boolean, 
/**
 * Why not.
 */
error?: string, 
/**
 * How it ended (dialect 2; set by the session, ignored from a sandbox).
 */
outcome?: Outcome, 
/**
 * The sandbox that wrote it; empty when the control plane did.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Lines that a tool call added to and removed from a file (dialect 2).
 */
export type FileChange = { 
/**
 * Path relative to the checkout.
 */
path: string, 
/**
 * Lines added.
 */
added: number, 
/**
 * Lines removed.
 */
removed: number, };

/**
 * State of the git checkout.
 */
export type GitSync = { 
/**
 * How far it is.
 */
status: GitSyncStatus, 
/**
 * The commit that is checked out.
 */
sha?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * How far the git checkout is.
 */
export type GitSyncStatus = "pending" | "in_progress" | "completed" | "failed";

/**
 * Where a page of history ends.
 */
export type HistoryCursor = { 
/**
 * `created_at` of the oldest row of the page.
 */
timestamp: UnixMillis, 
/**
 * Its id.
 */
id: string, 
/**
 * Its place; absent from old clients.
 */
sequence?: number, };

/**
 * `GET /image-builds/status`
 */
export type ImageBuildList = { 
/**
 * Newest first.
 */
images: Array<ImageBuildRow>, 
/**
 * Pass as `cursor` for the next page.
 */
nextCursor?: string, };

/**
 * `GET /image-builds/enabled-repos`
 */
export type ImageBuildRepositories = { 
/**
 * By name.
 */
repos: Array<ImageBuildRepository>, 
/**
 * Pass as `cursor` for the next page.
 */
nextCursor?: string, };

/**
 * A repository whose images are built ahead.
 */
export type ImageBuildRepository = { 
/**
 * Owner, in lower case.
 */
repoOwner: string, 
/**
 * Name, in lower case.
 */
repoName: string, };

/**
 * A build, or the image that it made.
 */
export type ImageBuildRow = { 
/**
 * Its id.
 */
id: string, 
/**
 * `repo` or `environment`
 */
scope_kind: string, 
/**
 * `owner/name`, or the environment's id.
 */
scope_id: string, 
/**
 * The sandbox provider.
 */
provider: string, 
/**
 * `building`, `ready`, `failed` or `superseded`
 */
status: string, 
/**
 * What it is of: repositories and branches.
 */
repositories_fingerprint: string, 
/**
 * The commits in it, as JSON: `[{repoOwner, repoName, baseSha}]`.
 */
repository_shas: string, 
/**
 * The runtime in it.
 */
runtime_version: string, 
/**
 * How long it took.
 */
build_duration_seconds: number | null, 
/**
 * Why it failed or ended, and when it is tried again; without secrets.
 */
error_message: string | null, 
/**
 * When it was begun, in ms.
 */
created_at: number, };

/**
 * `POST /image-builds/trigger/...`
 */
export type ImageBuildTriggered = { 
/**
 * The build that goes on.
 */
buildId: string, 
/**
 * `building`
 */
status: string, 
/**
 * Whether it went on before.
 */
alreadyBuilding: boolean, };

/**
 * What images are built ahead of.
 */
export type ImageBuildUnit = { 
/**
 * `repo` or `environment`
 */
scopeKind: string, 
/**
 * `owner/name`, or the environment's id.
 */
scopeId: string, 
/**
 * What its image would be of now.
 */
repositoriesFingerprint: string, };

/**
 * `GET /image-builds/enabled`
 */
export type ImageBuildUnits = { 
/**
 * Repositories by name, then environments by id.
 */
units: Array<ImageBuildUnit>, 
/**
 * Pass as `cursor` for the next page.
 */
nextCursor?: string, };

/**
 * Answer of `GET /sessions/inbox` without a category.
 */
export type Inbox = { 
/**
 * The first page of each.
 */
categories: InboxCategories, };

/**
 * The first page of each category.
 */
export type InboxCategories = { 
/**
 * Something is there that the person has not read.
 */
needs_attention: InboxPage, 
/**
 * Something runs.
 */
in_progress: InboxPage, 
/**
 * Neither.
 */
finished: InboxPage, };

/**
 * Where a session belongs, for one person.
 */
export type InboxCategory = "needs_attention" | "in_progress" | "finished";

/**
 * A session with those below it.
 */
export type InboxItem = { 
/**
 * The topmost that the person is shown.
 */
rootSession: InboxSession, 
/**
 * Newest change first.
 */
descendantSessions: Array<InboxSession>, };

/**
 * A page of a category.
 */
export type InboxPage = { 
/**
 * Newest change first.
 */
items: Array<InboxItem>, 
/**
 * Whether more follow.
 */
hasMore: boolean, 
/**
 * For the next page: `<ms>:<session>`.
 */
nextCursor: string | null, };

/**
 * A repository of a session in a list.
 */
export type InboxRepository = { 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * Branch that the work starts from.
 */
baseBranch: string | null, };

/**
 * A session in the inbox.
 */
export type InboxSession = { 
/**
 * Public id.
 */
id: SessionId, 
/**
 * Title.
 */
title: string | null, 
/**
 * Repository.
 */
repoOwner: string | null, 
/**
 * Repository.
 */
repoName: string | null, 
/**
 * Base branch.
 */
baseBranch: string | null, 
/**
 * Status.
 */
status: SessionStatus, 
/**
 * Parent.
 */
parentSessionId: SessionId | null, 
/**
 * What started it.
 */
spawnSource: SpawnSource, 
/**
 * Environment.
 */
environmentId: string | null, 
/**
 * When it was created.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, 
/**
 * The primary first.
 */
repositories: Array<InboxRepository>, 
/**
 * When it has any.
 */
pullRequestSummary?: PullRequestSummary, 
/**
 * What the person has read.
 */
readState: ReadState, };

/**
 * What a question is about.
 */
export type InputKind = "question" | "plan" | "approval";

/**
 * A question of the agent. It waits durably while its prompt runs.
 */
export type InputRequest = { 
/**
 * The question, as the bridge names it; 1 to 128 bytes, unique in the session.
 */
requestId: string, 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * What it is about.
 */
kind: InputKind, 
/**
 * The question.
 */
prompt: string, 
/**
 * Answers to choose from; another answer is allowed.
 */
options?: Array<string>, 
/**
 * What counts when nobody answers in time.
 */
default?: string, 
/**
 * Until when it waits; absent: as long as its prompt runs.
 */
expiresAt?: UnixMillis, 
/**
 * Where it stands. Only the control plane writes this and what follows.
 */
state: InputState, 
/**
 * The answer.
 */
answer?: string, 
/**
 * Who gave it.
 */
answeredBy?: Author, 
/**
 * When it ended.
 */
endedAt?: UnixMillis, 
/**
 * The sandbox that asked.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Where a question stands.
 */
export type InputState = "waiting" | "answered" | "expired" | "withdrawn";

/**
 * A key with what is held beside it.
 */
export type KeyBinding = { 
/**
 * `KeyboardEvent.code`
 */
code: string, 
/**
 * Command on a Mac, Control elsewhere.
 */
primary: boolean, 
/**
 * Alt.
 */
alt: boolean, 
/**
 * Shift.
 */
shift: boolean, };

/**
 * A person's shortcuts: all of them.
 */
export type KeyboardShortcuts = { 
/**
 * Sends what is written.
 */
"send-prompt": KeyBinding, 
/**
 * Opens the list of commands.
 */
"open-command-menu": KeyBinding, 
/**
 * Begins a session.
 */
"new-session": KeyBinding, 
/**
 * Shows or hides the sidebar.
 */
"toggle-sidebar": KeyBinding, };

/**
 * An MCP server. Values of variables and headers are in no answer.
 */
export type McpServer = { 
/**
 * 16 hex digits.
 */
id: string, 
/**
 * To be sent with a change.
 */
revision: number, 
/**
 * Unique.
 */
name: string, 
/**
 * `local` or `remote`
 */
type: string, 
/**
 * Of a local one.
 */
command?: Array<string>, 
/**
 * Of a remote one.
 */
url?: string, 
/**
 * Whether variables are set.
 */
hasEnv: boolean, 
/**
 * Whether headers are set.
 */
hasHeaders: boolean, 
/**
 * Repositories whose sessions have it; null for every session, empty for none.
 */
repoScopes: Array<string> | null, 
/**
 * Whether it is used at all.
 */
enabled: boolean, };

/**
 * A prompt, and all that its run produces.
 */
export type MessageId = string;

/**
 * Status of a prompt.
 */
export type MessageStatus = "pending" | "processing" | "completed" | "failed";

/**
 * A model that can be chosen.
 */
export type ModelInfo = { 
/**
 * `provider/model`
 */
id: string, 
/**
 * The name to show.
 */
name: string, 
/**
 * The provider's name to show.
 */
provider: string, 
/**
 * Efforts that it knows, weakest first.
 */
reasoningEfforts: Array<string>, 
/**
 * What it does when no effort is named, where that is one of them.
 */
defaultReasoningEffort?: string, 
/**
 * Whether its answers are scripted.
 */
demo: boolean, };

/**
 * Answer of `GET /api/models`
 */
export type ModelList = { 
/**
 * In display order.
 */
models: Array<ModelInfo>, 
/**
 * Used when a session names none.
 */
defaultModel: string, };

/**
 * Answer of `GET /model-preferences`
 */
export type ModelPreferences = { 
/**
 * `provider/model`, in display order.
 */
enabledModels: Array<string>, 
/**
 * To be sent with a change; 0 while nobody chose.
 */
version: number, };

/**
 * A text or reasoning part that is still being written (dialect 2).
 */
export type OpenPart = { 
/**
 * The prompt it answers.
 */
messageId: MessageId, 
/**
 * The part.
 */
partId: string, 
/**
 * Text or reasoning.
 */
kind: PartKind, 
/**
 * The text so far.
 */
text: string, };

/**
 * How a prompt ended (dialect 2; dialect 1 knows only `success`).
 */
export type Outcome = "done" | "failed" | "stopped" | "timed_out" | "cancelled";

/**
 * A page of a sandbox that asks for a password. It has no `Debug`, so that the password is in no log.
 */
export type PageWithPassword = { 
/**
 * Its address.
 */
url: string, 
/**
 * Its password.
 */
password: string, };

/**
 * A page of a sandbox that asks for a token. It has no `Debug`, so that the token is in no log.
 */
export type PageWithToken = { 
/**
 * Its address.
 */
url: string, 
/**
 * Its token.
 */
token: string, };

/**
 * A finished part of the assistant's text or reasoning.
 */
export type Part = { 
/**
 * The prompt it answers.
 */
messageId: MessageId, 
/**
 * The part, as the agent names it.
 */
partId: string, 
/**
 * Text or reasoning.
 */
kind: PartKind, 
/**
 * The whole text.
 */
text: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * What a streamed part is.
 */
export type PartKind = "text" | "reasoning";

/**
 * A person (or bot) within one session.
 */
export type ParticipantId = string;

/**
 * A person of the deployment.
 */
export type PersonInfo = { 
/**
 * Id.
 */
id: string, 
/**
 * The name to show.
 */
displayName: string | null, 
/**
 * E-mail.
 */
email: string | null, 
/**
 * URL of a picture.
 */
avatarUrl: string | null, 
/**
 * Login at the forge.
 */
scmLogin: string | null, 
/**
 * What they may do.
 */
role: Role, 
/**
 * When they were first seen.
 */
createdAt: UnixMillis, };

/**
 * Answer of `GET /people`
 */
export type PersonList = { 
/**
 * By id.
 */
people: Array<PersonInfo>, 
/**
 * For the next page, when there is one.
 */
cursor?: string, };

/**
 * A personal token, without the token itself.
 */
export type PersonalToken = { 
/**
 * Names it in this API.
 */
id: string, 
/**
 * As its owner called it.
 */
name: string, 
/**
 * What it may be used for.
 */
scopes: Array<TokenScope>, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it ends.
 */
expiresAt: UnixMillis, 
/**
 * When it was last used, within a quarter of an hour.
 */
lastUsedAt: UnixMillis | null, 
/**
 * When it was revoked.
 */
revokedAt: UnixMillis | null, };

/**
 * Answer of `GET /api/me/tokens`
 */
export type PersonalTokenList = { 
/**
 * The newest first.
 */
tokens: Array<PersonalToken>, 
/**
 * For the next page, when there is one.
 */
cursor?: string, };

/**
 * Somebody who watches the session.
 */
export type Presence = { 
/**
 * Within the session.
 */
participantId: ParticipantId, 
/**
 * Across sessions.
 */
userId: string, 
/**
 * The name to show.
 */
name: string, 
/**
 * A picture's URL.
 */
avatar?: string, 
/**
 * Active when any of the person's pages is.
 */
status: PresenceStatus, 
/**
 * When the person was last heard of.
 */
lastSeen: UnixMillis, };

/**
 * Whether somebody looks at the page.
 */
export type PresenceStatus = "active" | "idle" | "away";

/**
 * A file that goes with a prompt.
 */
export type PromptAttachment = { 
/**
 * The upload: `GET /sessions/:id/attachments/:attachmentId`.
 */
attachmentId: string, 
/**
 * The name to show.
 */
name: string, 
/**
 * What it is, as its first bytes told.
 */
mimeType: string, };

/**
 * `POST /sessions/:id/prompt`; the header `Idempotency-Key` makes a repetition harmless.
 */
export type PromptRequest = { 
/**
 * At most 64 000 units.
 */
content: string, 
/**
 * `web` when absent.
 */
source?: PromptSource, 
/**
 * `provider/model`
 */
model?: string, 
/**
 * How hard to think.
 */
reasoningEffort?: string, 
/**
 * At most 6.
 */
attachments?: Array<AttachmentRef>, };

/**
 * Answer of `POST /sessions/:id/prompt`
 */
export type PromptResponse = { 
/**
 * The prompt.
 */
messageId: MessageId, 
/**
 * `queued`
 */
status: string, };

/**
 * Where a prompt came from.
 */
export type PromptSource = "web" | "slack" | "linear" | "extension" | "github" | "automation" | "agent";

/**
 * A subscription at a model provider. Its tokens are in no answer.
 */
export type ProviderAccount = { 
/**
 * 32 hex digits.
 */
id: string, 
/**
 * `openai` or `xai`
 */
provider: string, 
/**
 * 1 to 100 characters.
 */
displayName: string, 
/**
 * Whose it is at the provider.
 */
externalAccountId: string | null, 
/**
 * `active`, `disabled` or `reconnect_required`
 */
status: string, 
/**
 * Who made it.
 */
createdBy: string, 
/**
 * Who changed it last.
 */
updatedBy: string, 
/**
 * When its tokens were last known to work.
 */
lastVerifiedAt: UnixMillis | null, 
/**
 * When a session last got a token of it; noted every 15 minutes.
 */
lastUsedAt: UnixMillis | null, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, 
/**
 * When it was put away.
 */
archivedAt: UnixMillis | null, };

/**
 * What new sessions of a provider use.
 */
export type ProviderAccountDefault = { 
/**
 * `openai` or `xai`
 */
provider: string, 
/**
 * The account.
 */
providerAccountId: string, 
/**
 * What sessions use that nobody watches: `provider_account` or `api_key`.
 */
unattendedMode: string, 
/**
 * Who chose first.
 */
createdBy: string, 
/**
 * Who chose last.
 */
updatedBy: string, 
/**
 * When it was first chosen.
 */
createdAt: UnixMillis, 
/**
 * When it was last chosen.
 */
updatedAt: UnixMillis, };

/**
 * Pull requests of a session, by state.
 */
export type PullRequestSummary = { 
/**
 * All.
 */
total: number, 
/**
 * Open, and no drafts.
 */
open: number, 
/**
 * Drafts.
 */
draft: number, 
/**
 * Merged.
 */
merged: number, 
/**
 * Closed and not merged.
 */
closed: number, };

/**
 * A branch reached the forge.
 */
export type PushComplete = { 
/**
 * The branch.
 */
branchName?: string, 
/**
 * The repository.
 */
repoOwner?: string, 
/**
 * The repository.
 */
repoName?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * A branch did not reach the forge.
 */
export type PushError = { 
/**
 * Why.
 */
error: string, 
/**
 * The branch.
 */
branchName?: string, 
/**
 * The repository.
 */
repoOwner?: string, 
/**
 * The repository.
 */
repoName?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * A prompt that waits or runs.
 */
export type QueuedPrompt = { 
/**
 * The prompt.
 */
messageId: MessageId, 
/**
 * Its text.
 */
content: string, 
/**
 * `pending` or `processing`.
 */
status: MessageStatus, 
/**
 * Who sent it (dialect 2).
 */
author?: Author, 
/**
 * When it was accepted (dialect 2).
 */
createdAt?: UnixMillis, 
/**
 * Its files (dialect 2); absent when it has none.
 */
attachments?: Array<PromptAttachment>, 
/**
 * Only the beginning of its text is here; `GET /sessions/:id/messages` has the whole (dialect 2).
 */
contentTruncated?: boolean, };

/**
 * What became of a mark.
 */
export type ReadOutcome = "no_terminal_message" | "marked_read" | "already_read" | "not_latest";

/**
 * Answer of `PATCH /sessions/:id/read-state`
 */
export type ReadResult = { 
/**
 * The session.
 */
sessionId: SessionId, 
/**
 * What became of it.
 */
outcome: ReadOutcome, 
/**
 * Whether something is there that was not read.
 */
unread: boolean, 
/**
 * The newest prompt that ended and has something to read.
 */
latestMessageId: MessageId | null, };

/**
 * What a person has read of a session.
 */
export type ReadState = { 
/**
 * The newest prompt that ended and has something to read.
 */
latestMessageId: MessageId | null, 
/**
 * Whether the person has not.
 */
unread: boolean, };

/**
 * The bridge is connected.
 */
export type Ready = { 
/**
 * The agent's session; `null` before the first prompt.
 */
opencodeSessionId?: string | null, 
/**
 * Version of the runtime, `v<N>-<name>`.
 */
runtimeVersion?: string, 
/**
 * Baselines of the checkouts.
 */
repositories?: Array<RepositoryBaseline>, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * A repository that a session can work on.
 */
export type Repository = { 
/**
 * The forge's number for it.
 */
id: number, 
/**
 * Owner.
 */
owner: string, 
/**
 * Name.
 */
name: string, 
/**
 * `owner/name`
 */
fullName: string, 
/**
 * What it is.
 */
description: string | null, 
/**
 * Whether it is private.
 */
private: boolean, 
/**
 * Its default branch.
 */
defaultBranch: string, 
/**
 * Always false: one that is archived is not listed.
 */
archived: boolean, 
/**
 * The language that most of it is written in.
 */
language?: string, 
/**
 * Its topics.
 */
topics?: Array<string>, 
/**
 * What people noted of it.
 */
metadata?: RepositoryMetadata, };

/**
 * Where the checkout of a repository started.
 */
export type RepositoryBaseline = { 
/**
 * Place in the session's list.
 */
position: number, 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * Commit that the session started from.
 */
baseSha: string, };

/**
 * Answer of `GET /api/repos`
 */
export type RepositoryList = { 
/**
 * By full name.
 */
repos: Array<Repository>, 
/**
 * Whether the list came from the cache.
 */
cached: boolean, 
/**
 * When it was read, ISO 8601.
 */
cachedAt: string, };

/**
 * What is known of a repository beyond what the forge says. Absent is unset.
 */
export type RepositoryMetadata = { 
/**
 * What it is.
 */
description?: string, 
/**
 * Other names that people use for it.
 */
aliases?: Array<string>, 
/**
 * Chat channels that are about it.
 */
channelAssociations?: Array<string>, 
/**
 * Words that tell that it is meant.
 */
keywords?: Array<string>, 
/**
 * Environment of sessions that a bot starts for it.
 */
defaultEnvironmentId?: EnvironmentId, 
/**
 * Grows with each change; sent with one, it refuses what somebody else has changed since.
 */
version?: number, };

/**
 * Answer of `GET /repos/:owner/:name/metadata`
 */
export type RepositoryMetadataAnswer = { 
/**
 * `owner/name`
 */
repo: string, 
/**
 * `null` when nothing was ever set.
 */
metadata: RepositoryMetadata | null, };

/**
 * What a person may do.
 */
export type Role = "member" | "admin";

/**
 * `GET /sessions/:id/sandbox-access`: pages of the sandbox, those that there are, with what they ask for.
 */
export type SandboxAccess = { 
/**
 * code-server.
 */
codeServer: PageWithPassword | null, 
/**
 * The desktop.
 */
vnc: PageWithPassword | null, 
/**
 * A terminal of the vendor's.
 */
ttyd: PageWithToken | null, };

/**
 * Status of the session's sandbox.
 */
export type SandboxStatus = "pending" | "spawning" | "connecting" | "warming" | "syncing" | "ready" | "running" | "stale" | "snapshotting" | "stopped" | "failed";

/**
 * The part of a text that was found.
 */
export type SearchField = "title" | "prompt" | "answer" | "paths";

/**
 * A range of a text, in UTF-16 code units.
 */
export type SearchMark = { 
/**
 * Its first unit.
 */
start: number, 
/**
 * After its last.
 */
end: number, };

/**
 * Where something was found.
 */
export type SearchPlace = { "type": "title" } | { "type": "turn", 
/**
 * The prompt.
 */
messageId: MessageId, } | { "type": "pull_request", 
/**
 * The artifact.
 */
artifactId: ArtifactId, };

/**
 * A session in which something was found.
 */
export type SearchResult = { 
/**
 * The session.
 */
sessionId: SessionId, 
/**
 * Its title.
 */
title: string | null, 
/**
 * Its repository.
 */
repoOwner: string | null, 
/**
 * Its repository.
 */
repoName: string | null, 
/**
 * Its status.
 */
status: SessionStatus, 
/**
 * Whose it is.
 */
userId: string | null, 
/**
 * When it was created.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, 
/**
 * Turns and titles of it that match, of the newest that match at all.
 */
matches: number, 
/**
 * Where the best of them is.
 */
place: SearchPlace, 
/**
 * When that was.
 */
at: UnixMillis, 
/**
 * What was found there.
 */
snippets: Array<SearchSnippet>, };

/**
 * Answer of `GET /search`
 */
export type SearchResults = { 
/**
 * The best first; each session once.
 */
results: Array<SearchResult>, 
/**
 * Whether more follow.
 */
hasMore: boolean, 
/**
 * For the next page; absent after the last.
 */
cursor?: string, };

/**
 * A piece of a text, and what in it was found. Plain text, never markup.
 */
export type SearchSnippet = { 
/**
 * Of which text.
 */
field: SearchField, 
/**
 * The piece.
 */
text: string, 
/**
 * What was found in it, in order.
 */
marks: Array<SearchMark>, };

/**
 * A secret in a list.
 */
export type SecretInfo = { 
/**
 * Its name.
 */
key: string, 
/**
 * When it was first set.
 */
createdAt: UnixMillis, 
/**
 * When it was last set.
 */
updatedAt: UnixMillis, };

/**
 * Secrets under one key of the deployment.
 */
export type SecretKeyUse = { 
/**
 * Derived from the key.
 */
keyId: string, 
/**
 * Whether the deployment has the key.
 */
known: boolean, 
/**
 * How many secrets it seals.
 */
secrets: number, 
/**
 * How many of them were tried and do not open.
 */
unreadable: number, };

/**
 * Answer of `GET …/secrets`
 */
export type SecretList = { 
/**
 * By name.
 */
secrets: Array<SecretInfo>, 
/**
 * Of a repository or an environment: those of the deployment, which it can override.
 */
globalSecrets?: Array<SecretInfo>, 
/**
 * Grows with each change of the scope; 0 before the first.
 */
version: number, };

/**
 * Answer of `GET /secret-rotation`
 */
export type SecretRotation = { 
/**
 * The key that new secrets are sealed with.
 */
currentKeyId: string, 
/**
 * Secrets that are still under another key. At 0 the old keys can be taken out of the configuration.
 */
remaining: number, 
/**
 * By key.
 */
keys: Array<SecretKeyUse>, };

/**
 * Answer of `PUT …/secrets` and of an import.
 */
export type SecretsChanged = { 
/**
 * `updated` or `imported`
 */
status: string, 
/**
 * `owner/name`, of a repository.
 */
repo?: string, 
/**
 * Of an environment.
 */
environmentId?: string, 
/**
 * `owner/name` that an import took them from.
 */
source?: string, 
/**
 * Names that were set, sorted.
 */
keys: Array<string>, 
/**
 * How many of them are new.
 */
created: number, 
/**
 * How many were there.
 */
updated: number, 
/**
 * The scope's version now.
 */
version: number, };

/**
 * What the session may send to a client.
 */
export type ServerMessage = { "type": "pong", 
/**
 * Absent when the platform answers for a sleeping session.
 */
timestamp?: UnixMillis, } | { "type": "subscribed", 
/**
 * Granted dialect (dialect 2).
 */
dialect?: number, 
/**
 * Who you are.
 */
participantId: ParticipantId, 
/**
 * Who you are, to show.
 */
participant: Author, 
/**
 * The session.
 */
session: SessionInfo, 
/**
 * Newest first.
 */
artifacts: Array<SessionArtifact>, 
/**
 * Newest page.
 */
timeline: Timeline, 
/**
 * Waiting and running prompts, in order.
 */
promptQueue: Array<QueuedPrompt>, 
/**
 * Why the sandbox did not start.
 */
spawnError: string | null, 
/**
 * Parts that are being written (dialect 2).
 */
openParts?: Array<OpenPart>, 
/**
 * The newest revision (dialect 2).
 */
revision?: number, 
/**
 * Questions that wait for an answer; they may be older than the page (dialect 2).
 */
inputRequests?: Array<InputRequest>, 
/**
 * There are older artifacts: `GET /sessions/:id/artifacts` goes on from here (dialect 2).
 */
artifactsCursor?: string, } | { "type": "prompt_queued", 
/**
 * Echo.
 */
clientRequestId: string, 
/**
 * The prompt.
 */
messageId: MessageId, 
/**
 * 1 is the one that runs or will run first; null when it is finished already.
 */
position: number | null, } | { "type": "prompt_cancelled", 
/**
 * Echo.
 */
clientRequestId: string, 
/**
 * The prompt.
 */
messageId: MessageId, } | { "type": "prompt_edited", 
/**
 * Echo.
 */
clientRequestId: string, 
/**
 * The prompt.
 */
messageId: MessageId, } | { "type": "prompts_reordered", 
/**
 * Echo.
 */
clientRequestId: string, } | { "type": "prompt_sent_now", 
/**
 * Echo.
 */
clientRequestId: string, 
/**
 * The prompt.
 */
messageId: MessageId, } | { "type": "input_accepted", 
/**
 * Echo.
 */
clientRequestId: string, 
/**
 * The question.
 */
requestId: string, } | { "type": "prompt_queue_updated", 
/**
 * Waiting and running prompts, in order.
 */
promptQueue: Array<QueuedPrompt>, } | { "type": "sandbox_event", 
/**
 * The event.
 */
event: Event, 
/**
 * Dialect 2, stored events only.
 */
eventId?: string, 
/**
 * Dialect 2, stored events only.
 */
timelineSequence?: number, 
/**
 * Dialect 2, stored events only.
 */
revision?: number, } | { "type": "part_delta", 
/**
 * The prompt it answers.
 */
messageId: MessageId, 
/**
 * The part.
 */
partId: string, 
/**
 * Text or reasoning.
 */
kind: PartKind, 
/**
 * UTF-16 units from the part's start: cut there and append.
 */
offset: number, 
/**
 * What to append.
 */
text: string, } | { "type": "part_done", 
/**
 * The prompt it answers.
 */
messageId: MessageId, 
/**
 * The part.
 */
partId: string, 
/**
 * Text or reasoning.
 */
kind: PartKind, 
/**
 * UTF-16 units.
 */
length: number, 
/**
 * The whole text, when the client may lack some.
 */
text?: string, 
/**
 * Its row.
 */
eventId: string, 
/**
 * Its place.
 */
timelineSequence: number, 
/**
 * Its revision.
 */
revision: number, 
/**
 * Seconds, of the stored event.
 */
timestamp: number, } | { "type": "batch", 
/**
 * In order.
 */
messages: Array<ServerMessage>, } | { "type": "presence_sync", 
/**
 * One entry a person.
 */
participants: Array<Presence>, } | { "type": "presence_update", 
/**
 * One entry a person.
 */
participants: Array<Presence>, } | { "type": "presence_leave", 
/**
 * The person.
 */
userId: string, } | { "type": "typing", 
/**
 * Who.
 */
participantId: ParticipantId, 
/**
 * The name to show.
 */
name: string, } | { "type": "sandbox_warming" } | { "type": "sandbox_spawning" } | { "type": "sandbox_status", 
/**
 * Its status.
 */
status: SandboxStatus, } | { "type": "sandbox_error", 
/**
 * Why.
 */
error: string, } | { "type": "sandbox_warning", 
/**
 * What.
 */
message: string, } | { "type": "sandbox_restored", 
/**
 * The sentence.
 */
message: string, } | { "type": "snapshot_saved", 
/**
 * The backend's name of it.
 */
imageId: string, 
/**
 * `execution_complete`, `inactivity_timeout`, `heartbeat_timeout`, `time_limit`, `archive`, ...
 */
reason: string, } | { "type": "sandbox_access_changed" } | { "type": "tunnel_urls", 
/**
 * Address by port.
 */
urls: Record<string, string>, } | { "type": "sandbox_dashboard_url", 
/**
 * Its address.
 */
url: string, } | { "type": "artifact_created", 
/**
 * The artifact.
 */
artifact: SessionArtifact, } | { "type": "artifact_updated", 
/**
 * The artifact.
 */
artifact: SessionArtifact, } | { "type": "session_branch", 
/**
 * The branch.
 */
branchName: string, 
/**
 * The repository.
 */
repoOwner?: string, 
/**
 * The repository.
 */
repoName?: string, } | { "type": "session_status", 
/**
 * Its status.
 */
status: SessionStatus, } | { "type": "session_title", 
/**
 * The title.
 */
title: string, } | { "type": "processing_status", 
/**
 * Whether one does.
 */
isProcessing: boolean, } | { "type": "history_page", 
/**
 * Oldest first.
 */
items: Array<TimelineEvent>, 
/**
 * Whether older ones exist.
 */
hasMore: boolean, 
/**
 * The oldest of the page; null when it is empty.
 */
cursor: HistoryCursor | null, } | { "type": "child_session_update", 
/**
 * The child.
 */
childSessionId: string, 
/**
 * Its status.
 */
status: SessionStatus, 
/**
 * Its title.
 */
title: string | null, } | { "type": "diff_state_changed", 
/**
 * The newest bundle; null when there is none.
 */
revisionId: string | null, 
/**
 * When.
 */
updatedAt: UnixMillis, } | { "type": "error", 
/**
 * Stable.
 */
code: ErrorCode, 
/**
 * The sentence.
 */
message: string, 
/**
 * Echo, when the message carried one.
 */
clientRequestId?: string, };

/**
 * Something the session produced.
 */
export type SessionArtifact = { 
/**
 * The artifact.
 */
id: ArtifactId, 
/**
 * Its kind.
 */
type: ArtifactType, 
/**
 * Where it is.
 */
url: string | null, 
/**
 * For a pull request: `number`, `title`, `state`, `lifecycleState`, `isDraft`, `head`, `base`, `repoOwner`,
 * `repoName`, `draft`, and what the forge told: `headSha`, `repositoryExternalId`, `providerUpdatedAt`.
 */
metadata: Record<string, unknown> | null, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt?: UnixMillis, };

/**
 * The public id of a session, in every URL.
 */
export type SessionId = string;

/**
 * The session itself, within a snapshot.
 */
export type SessionInfo = { 
/**
 * Public id.
 */
id: SessionId, 
/**
 * Title; null until set.
 */
title: string | null, 
/**
 * Primary repository.
 */
repoOwner: string | null, 
/**
 * Primary repository.
 */
repoName: string | null, 
/**
 * Its base branch.
 */
baseBranch: string | null, 
/**
 * Its branch last pushed.
 */
branchName: string | null, 
/**
 * Status.
 */
status: SessionStatus, 
/**
 * Status of the sandbox; `pending` when there was none.
 */
sandboxStatus: SandboxStatus, 
/**
 * Prompts ever accepted.
 */
messageCount: number, 
/**
 * When it was created.
 */
createdAt: UnixMillis, 
/**
 * `provider/model`.
 */
model: string, 
/**
 * Default reasoning effort.
 */
reasoningEffort?: string, 
/**
 * Whether a prompt runs.
 */
isProcessing: boolean, 
/**
 * The parent's id.
 */
parentSessionId: SessionId | null, 
/**
 * US dollars so far.
 */
totalCost: number, 
/**
 * URL of code-server.
 */
codeServerUrl: string | null, 
/**
 * URL of the desktop.
 */
vncUrl: string | null, 
/**
 * Tunnels by port.
 */
tunnelUrls: Record<string, string> | null, 
/**
 * URL of the terminal.
 */
ttydUrl: string | null, 
/**
 * The vendor's page of the sandbox.
 */
sandboxDashboardUrl: string | null, 
/**
 * Repositories.
 */
repositories: Array<SessionRepository>, 
/**
 * Environment it was started from.
 */
environmentId: string | null, 
/**
 * That environment's name.
 */
environmentName: string | null, };

/**
 * Answer of `GET /sessions`
 */
export type SessionList = { 
/**
 * Newest change first.
 */
sessions: Array<SessionListItem>, 
/**
 * Whether more follow.
 */
hasMore: boolean, };

/**
 * A session in a list.
 */
export type SessionListItem = { 
/**
 * Public id.
 */
id: SessionId, 
/**
 * Title.
 */
title: string | null, 
/**
 * Repository.
 */
repoOwner: string | null, 
/**
 * Repository.
 */
repoName: string | null, 
/**
 * `provider/model`
 */
model: string, 
/**
 * Default reasoning effort.
 */
reasoningEffort: string | null, 
/**
 * Base branch.
 */
baseBranch: string | null, 
/**
 * Status.
 */
status: SessionStatus, 
/**
 * Parent.
 */
parentSessionId: SessionId | null, 
/**
 * What started it.
 */
spawnSource: SpawnSource, 
/**
 * 0 for a top-level session.
 */
spawnDepth: number, 
/**
 * Automation that started it.
 */
automationId: string | null, 
/**
 * Run of that automation.
 */
automationRunId: string | null, 
/**
 * Login of the person who started it.
 */
scmLogin: string | null, 
/**
 * That person.
 */
userId: string | null, 
/**
 * US dollars.
 */
totalCost: number, 
/**
 * Time that prompts ran, in ms.
 */
activeDurationMs: number, 
/**
 * Prompts accepted.
 */
messageCount: number, 
/**
 * Pull requests.
 */
prCount: number, 
/**
 * Environment.
 */
environmentId: string | null, 
/**
 * Its repositories, the primary first.
 */
repositories?: Array<EnvironmentRepository>, 
/**
 * When it was created.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, };

/**
 * One repository of a session.
 */
export type SessionRepository = { 
/**
 * 0 is the primary.
 */
position: number, 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * The forge's number for it.
 */
repoId: number | null, 
/**
 * Branch that the work starts from and goes back to.
 */
baseBranch: string, 
/**
 * Branch last pushed.
 */
branchName: string | null, 
/**
 * Commit that the work started from.
 */
baseSha: string | null, 
/**
 * Commit that is checked out.
 */
currentSha: string | null, 
/**
 * Newest pull request.
 */
prUrl: string | null, };

/**
 * Status of a session.
 */
export type SessionStatus = "created" | "active" | "completed" | "failed" | "archived" | "cancelled";

/**
 * A skill.
 */
export type Skill = { 
/**
 * `skill_` and 32 hex digits.
 */
id: string, 
/**
 * Its folder's name.
 */
name: string, 
/**
 * Whether sessions get it.
 */
enabled: boolean, 
/**
 * Grows with every change.
 */
version: number, 
/**
 * `skillrev_` and 32 hex digits.
 */
revisionId: string, 
/**
 * From 1.
 */
revisionNumber: number, 
/**
 * Of its files.
 */
revisionSha256: string, 
/**
 * When the agent should use it.
 */
description: string, 
/**
 * Bytes of its files.
 */
totalBytes: number, 
/**
 * Where it applies.
 */
assignments: Array<SkillAssignment>, 
/**
 * All that it says; not in lists.
 */
content?: SkillContent, 
/**
 * Who made it.
 */
createdBy: string, 
/**
 * Who changed it last.
 */
updatedBy: string, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, };

/**
 * Where a skill applies.
 */
export type SkillAssignment = { "type": "global", } | { "type": "repository", 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, } | { "type": "environment", 
/**
 * Its id.
 */
environmentId: string, };

/**
 * What a skill says.
 */
export type SkillContent = { 
/**
 * When the agent should use it.
 */
description: string, 
/**
 * Its instructions.
 */
body: string, 
/**
 * Under which terms.
 */
license?: string, 
/**
 * What it needs.
 */
compatibility?: string, 
/**
 * Further facts.
 */
metadata: { [key in string]: string }, 
/**
 * Its files, without `SKILL.md`.
 */
files: Array<SkillFile>, };

/**
 * A file of a skill.
 */
export type SkillFile = { 
/**
 * Below the skill's folder.
 */
path: string, 
/**
 * Its text.
 */
content: string, 
/**
 * Whether it can be run.
 */
executable: boolean, };

/**
 * A person's choice of skills.
 */
export type SkillProfile = { 
/**
 * `skillprof_` and 32 hex digits.
 */
id: string, 
/**
 * 1 to 200 characters.
 */
name: string, 
/**
 * Skills, by id.
 */
skillIds: Array<string>, 
/**
 * To be sent with a change.
 */
version: number, 
/**
 * When it was made.
 */
createdAt: UnixMillis, 
/**
 * When it last changed.
 */
updatedAt: UnixMillis, };

/**
 * The whole of a session at one moment.
 */
export type Snapshot = { 
/**
 * The session.
 */
session: SessionInfo, 
/**
 * Newest first.
 */
artifacts: Array<SessionArtifact>, 
/**
 * Newest page.
 */
timeline: Timeline, 
/**
 * Waiting and running prompts, in order.
 */
promptQueue: Array<QueuedPrompt>, 
/**
 * Why the sandbox did not start.
 */
spawnError: string | null, 
/**
 * Parts that are being written (dialect 2).
 */
openParts?: Array<OpenPart>, 
/**
 * The newest revision (dialect 2).
 */
revision?: number, 
/**
 * Questions that wait for an answer; they may be older than the page (dialect 2).
 */
inputRequests?: Array<InputRequest>, 
/**
 * There are older artifacts: `GET /sessions/:id/artifacts` goes on from here (dialect 2).
 */
artifactsCursor?: string, };

/**
 * What started a session.
 */
export type SpawnSource = "user" | "agent" | "automation" | "github-bot" | "linear-bot" | "slack-bot";

/**
 * A model step ended.
 */
export type StepFinish = { 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * US dollars, as the agent reckons.
 */
cost?: number, 
/**
 * A count, or an object with `total`, `input`, `output`, `reasoning` and `cache`: see [`is_token_usage`].
 */
tokens?: unknown, 
/**
 * Why it ended.
 */
reason?: string, 
/**
 * Whether a sub-agent made the step.
 */
isSubtask?: boolean, 
/**
 * The sub-agent's session, as the agent names it.
 */
childSessionId?: string, 
/**
 * The task call that started the sub-agent.
 */
taskCallId?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * A model step began.
 */
export type StepStart = { 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * Whether a sub-agent made the step.
 */
isSubtask?: boolean, 
/**
 * The sub-agent's session, as the agent names it.
 */
childSessionId?: string, 
/**
 * The task call that started the sub-agent.
 */
taskCallId?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Why a page's socket is closed.
 */
export type TerminalEnd = "no_sandbox" | "sandbox_ended" | "sandbox_replaced" | "turned_off" | "full" | "signed_out";

/**
 * What a page is told.
 */
export type TerminalEvent = { "type": "pong" } | { "type": "sandbox", 
/**
 * Without it nothing is shown and no key goes anywhere; the socket waits.
 */
reachable: boolean, 
/**
 * Numbers of the terminals that run.
 */
running: Array<number>, } | { "type": "opened", 
/**
 * Its number.
 */
terminal: number, 
/**
 * Its size.
 */
size: TerminalSize, 
/**
 * Whether it was started for this.
 */
started: boolean, } | { "type": "resized", 
/**
 * The size.
 */
size: TerminalSize, } | { "type": "exited", 
/**
 * Its number.
 */
terminal: number, 
/**
 * Its exit code; `null` when a signal ended it.
 */
code: number | null, } | { "type": "restarted" } | { "type": "refused", 
/**
 * Why, for people.
 */
message: string, } | { "type": "ended", 
/**
 * Why.
 */
reason: TerminalEnd, };

/**
 * What a page says.
 */
export type TerminalMessage = { "type": "ping" } | { "type": "open", 
/**
 * Its number.
 */
terminal: number, 
/**
 * The page's own size.
 */
size: TerminalSize, } | { "type": "resize", 
/**
 * The size.
 */
size: TerminalSize, } | { "type": "shown", 
/**
 * Bytes since the last one.
 */
bytes: number, };

/**
 * Columns and rows of a terminal.
 */
export type TerminalSize = { 
/**
 * 2 to 500.
 */
cols: number, 
/**
 * 1 to 300.
 */
rows: number, };

/**
 * The newest page of the timeline.
 */
export type Timeline = { 
/**
 * How to fill (dialect 2).
 */
mode?: TimelineMode, 
/**
 * Oldest first.
 */
events: Array<TimelineEvent>, 
/**
 * Whether older ones exist.
 */
hasMore: boolean, 
/**
 * The oldest of the page; null when it is empty.
 */
cursor: HistoryCursor | null, };

/**
 * One stored event with its place.
 */
export type TimelineEvent = { 
/**
 * The event.
 */
eventId: string, 
/**
 * Its place, never changed.
 */
timelineSequence: number, 
/**
 * Taken anew whenever the row changes (dialect 2).
 */
revision?: number, 
/**
 * What happened.
 */
event: Event, };

/**
 * How `subscribed` fills the client's timeline (dialect 2).
 */
export type TimelineMode = "delta" | "snapshot";

/**
 * `PUT /image-builds/toggle/repo/:owner/:name`
 */
export type ToggleImageBuilds = { 
/**
 * Whether images are built ahead.
 */
enabled: boolean, };

/**
 * What a personal token may be used for, within its owner's role.
 */
export type TokenScope = "read" | "sessions" | "settings" | "admin";

/**
 * A tool call and its state.
 */
export type ToolCall = { 
/**
 * The prompt it belongs to.
 */
messageId: MessageId, 
/**
 * The tool's name.
 */
tool: string, 
/**
 * Its arguments.
 */
args: Record<string, unknown>, 
/**
 * The call, as the agent names it.
 */
callId: string, 
/**
 * `pending`, `running`, `completed` or `error`.
 */
status?: string, 
/**
 * What it printed, so far or at the end.
 */
output?: string, 
/**
 * Whether a sub-agent made the call.
 */
isSubtask?: boolean, 
/**
 * The sub-agent's session, as the agent names it.
 */
childSessionId?: string, 
/**
 * The task call that started the sub-agent.
 */
taskCallId?: string, 
/**
 * Why it failed (dialect 2).
 */
error?: string, 
/**
 * Exit code of a command (dialect 2).
 */
exitCode?: number, 
/**
 * When it began (dialect 2).
 */
startedAt?: UnixMillis, 
/**
 * When it ended (dialect 2).
 */
endedAt?: UnixMillis, 
/**
 * Whether the output was cut (dialect 2).
 */
truncated?: boolean, 
/**
 * Where the whole output is: `GET /sessions/:id/outputs/:outputRef` (dialect 2).
 */
outputRef?: string, 
/**
 * What it changed in the checkout (dialect 2).
 */
fileChange?: FileChange, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Milliseconds since the Unix epoch, UTC.
 */
export type UnixMillis = number;

/**
 * A prompt as it was given to the agent. Only the control plane writes it.
 */
export type UserMessage = { 
/**
 * The prompt.
 */
messageId: MessageId, 
/**
 * Its text.
 */
content: string, 
/**
 * Who sent it.
 */
author?: Author, 
/**
 * Its files; absent when it has none.
 */
attachments?: Array<PromptAttachment>, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * A repository that is asked for.
 */
export type WantedRepository = { 
/**
 * Owner.
 */
repoOwner: string, 
/**
 * Name.
 */
repoName: string, 
/**
 * Branch that work starts from; the repository's default when absent.
 */
baseBranch?: string | null, };

/**
 * Something people should know that stopped nothing.
 */
export type Warning = { 
/**
 * Where it comes from.
 */
scope: WarningScope, 
/**
 * The sentence.
 */
message: string, 
/**
 * The repository it is about.
 */
repoOwner?: string, 
/**
 * The repository it is about.
 */
repoName?: string, 
/**
 * The sandbox that wrote it.
 */
sandboxId: string, 
/**
 * Seconds.
 */
timestamp: number, };

/**
 * Where a warning comes from.
 */
export type WarningScope = "sync" | "setup" | "start" | "assembly" | "secrets" | "media";

/**
 * Answer of `POST /sessions/:id/ws-token`
 */
export type WsTokenResponse = { 
/**
 * 64 hex digits, shown once.
 */
token: string, 
/**
 * Who it stands for.
 */
participantId: ParticipantId, };
