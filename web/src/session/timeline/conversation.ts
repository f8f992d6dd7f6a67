import type {
  Author,
  BootProgress,
  Event,
  ExecutionComplete,
  InputRequest,
  Outcome,
  QueuedPrompt,
  ToolCall,
  UserMessage,
} from "../../protocol.generated";
import { kindOf } from "./tools/tool-words";
import type { Row, Timeline } from "./timeline";

/** What the timeline shows, one entry a line or card. `key` stays the same as long as it is the same thing. */
export type Item =
  | { kind: "boot"; key: string; phases: readonly BootProgress[]; ready: boolean }
  | { kind: "prompt"; key: string; message: UserMessage }
  | { kind: "waiting"; key: string; prompt: QueuedPrompt }
  | { kind: "text"; key: string; text: string; writing: boolean }
  | { kind: "reasoning"; key: string; texts: readonly string[]; writing: boolean }
  | { kind: "tool"; key: string; call: ToolCall; nested: readonly ToolCall[]; ended: boolean; first: boolean; last: boolean }
  | { kind: "looks"; key: string; calls: readonly ToolCall[]; first: boolean; last: boolean }
  | { kind: "worked"; key: string; turn: string; open: boolean; durationMs: number; calls: number }
  | { kind: "note"; key: string; tone: "bad" | "busy" | "plain"; text: string; detail: string | undefined }
  | { kind: "question"; key: string; request: InputRequest }
  | { kind: "pushed"; key: string; branch: string | undefined }
  | { kind: "compacted"; key: string }
  | { kind: "pull-request"; key: string; artifactId: string | undefined; url: string; metadata: Record<string, unknown> }
  | { kind: "end"; key: string; outcome: Outcome; error: string | undefined; durationMs: number | undefined };

/** A prompt and all that came of it, as far as it is loaded. */
export interface Conversation {
  items: readonly Item[];
  /** The prompt that runs, or ran last. */
  latest: Turn | undefined;
  /** Whether the agent waits for a person. */
  asking: boolean;
  files: readonly ChangedFile[];
}

export interface Turn {
  messageId: string;
  /** When the agent got it, in ms. */
  startedAt: number;
  author: Author | undefined;
  ended: boolean;
}

/** A file that the agent changed, with the lines of all its changes together. */
export interface ChangedFile {
  path: string;
  added: number;
  removed: number;
}

/** At least this many looks (reads, searches, listings) in a row are told in one line. */
const LOOKS_TOGETHER = 3;
const LOOKS = new Set(["read", "search", "list"]);

interface Section {
  prompt: UserMessage | undefined;
  rows: Row[];
  end: ExecutionComplete | undefined;
}

/**
 * Tells the stored rows as turns. Each finished turn but the newest is folded to its prompt, its last text, and what a person must
 * still see (errors, pull requests), unless `unfolded` names it.
 */
export function tellRows(rows: readonly Row[], unfolded: ReadonlySet<string>): Conversation {
  const boots = bootsOf(rows);
  const sections = sectionsOf(rows);
  const lastPrompt = sections.findLastIndex((section) => section.prompt !== undefined);
  const items: Item[] = [];
  sections.forEach((section, index) => {
    const told = tellSection(section, boots);
    if (section.prompt !== undefined) items.push({ kind: "prompt", key: `prompt:${section.prompt.messageId}`, message: section.prompt });
    const foldable = section.prompt !== undefined && section.end !== undefined && index < lastPrompt;
    items.push(...(foldable ? fold(section, told, unfolded) : told));
  });
  return { items, latest: latestOf(sections[lastPrompt]), asking: isAsking(rows), files: changedFiles(rows) };
}

/** Adds what is not stored yet: text that is being written, and a first prompt that waits for its sandbox. */
export function tellAll(told: Conversation, timeline: Timeline, waiting: QueuedPrompt | undefined): readonly Item[] {
  const items = [...told.items];
  if (waiting !== undefined) items.push({ kind: "waiting", key: `prompt:${waiting.messageId}`, prompt: waiting });
  for (const part of timeline.openParts) {
    if (part.text.trim() === "") continue;
    const key = `part:${part.messageId}:${part.partId}`;
    const last = items.at(-1);
    if (part.kind === "text") items.push({ kind: "text", key, text: part.text, writing: true });
    else if (last?.kind === "reasoning") items[items.length - 1] = { ...last, texts: [...last.texts, part.text], writing: true };
    else items.push({ kind: "reasoning", key, texts: [part.text], writing: true });
  }
  return items;
}

function sectionsOf(rows: readonly Row[]): Section[] {
  const sections: Section[] = [];
  let section: Section = { prompt: undefined, rows: [], end: undefined };
  for (const row of rows) {
    if (row.event.type === "user_message") {
      if (section.prompt !== undefined || section.rows.length > 0) sections.push(section);
      section = { prompt: row.event, rows: [], end: undefined };
      continue;
    }
    section.rows.push(row);
    if (row.event.type === "execution_complete" && row.event.messageId === section.prompt?.messageId) section.end = row.event;
  }
  if (section.prompt !== undefined || section.rows.length > 0) sections.push(section);
  return sections;
}

function latestOf(section: Section | undefined): Turn | undefined {
  if (section?.prompt === undefined) return undefined;
  const { prompt, end } = section;
  return {
    messageId: prompt.messageId,
    startedAt: prompt.timestamp * 1000,
    author: prompt.author,
    ended: end !== undefined,
  };
}

function isAsking(rows: readonly Row[]): boolean {
  return rows.some(({ event }) => event.type === "input_request" && event.state === "waiting");
}

interface Boot {
  at: Row;
  phases: BootProgress[];
  ready: boolean;
}

/** The start of each sandbox, told where its first phase stands. */
function bootsOf(rows: readonly Row[]): Map<string, Boot> {
  const boots = new Map<string, Boot>();
  for (const row of rows) {
    const { event } = row;
    if (event.type === "boot_progress") {
      const boot = boots.get(event.sandboxId) ?? { at: row, phases: [], ready: false };
      const index = boot.phases.findIndex((phase) => phase.phase === event.phase);
      if (index === -1) boot.phases.push(event);
      else boot.phases[index] = event;
      boots.set(event.sandboxId, boot);
    } else if (event.type === "ready") {
      const boot = boots.get(event.sandboxId);
      if (boot !== undefined) boot.ready = true;
    }
  }
  return boots;
}

function tellSection(section: Section, boots: ReadonlyMap<string, Boot>): Item[] {
  const items: Item[] = [];
  const ended = section.end !== undefined;
  const tasks = new Set(
    section.rows.flatMap(({ event }) => (event.type === "tool_call" && event.isSubtask !== true ? [event.callId] : [])),
  );
  const nested = new Map<string, ToolCall[]>();
  for (const { event } of section.rows) {
    if (event.type !== "tool_call" || event.isSubtask !== true || event.taskCallId === undefined) continue;
    nested.set(event.taskCallId, [...(nested.get(event.taskCallId) ?? []), event]);
  }
  for (const row of section.rows) {
    const item = tellRow(row, section, boots, nested, tasks, ended);
    if (item === undefined) continue;
    const last = items.at(-1);
    if (item.kind === "reasoning" && last?.kind === "reasoning") {
      items[items.length - 1] = { ...last, texts: [...last.texts, ...item.texts] };
    } else {
      items.push(item);
    }
  }
  return joinNeighbours(gatherLooks(items));
}

function tellRow(
  row: Row,
  section: Section,
  boots: ReadonlyMap<string, Boot>,
  nested: ReadonlyMap<string, ToolCall[]>,
  tasks: ReadonlySet<string>,
  ended: boolean,
): Item | undefined {
  const { event } = row;
  const key = row.eventId;
  switch (event.type) {
    case "boot_progress": {
      const boot = boots.get(event.sandboxId);
      if (boot?.at !== row) return undefined;
      return { kind: "boot", key, phases: boot.phases, ready: boot.ready };
    }
    case "part":
      if (event.text.trim() === "") return undefined;
      return event.kind === "text"
        ? { kind: "text", key, text: event.text, writing: false }
        : { kind: "reasoning", key, texts: [event.text], writing: false };
    case "tool_call":
      if (event.isSubtask === true && event.taskCallId !== undefined && tasks.has(event.taskCallId)) return undefined;
      return { kind: "tool", key, call: event, nested: nested.get(event.callId) ?? [], ended, first: true, last: true };
    case "artifact":
      if (event.artifactType !== "pr") return undefined;
      return { kind: "pull-request", key, artifactId: event.artifactId, url: event.url, metadata: event.metadata ?? {} };
    case "execution_complete":
      return {
        kind: "end",
        key,
        outcome: event.outcome ?? (event.success ? "done" : "failed"),
        error: event.error,
        durationMs: section.prompt?.messageId === event.messageId ? (event.timestamp - section.prompt.timestamp) * 1000 : undefined,
      };
    case "input_request":
      return { kind: "question", key, request: event };
    case "context_compacted":
      return { kind: "compacted", key };
    case "push_complete":
      return { kind: "pushed", key, branch: event.branchName };
    default:
      return tellNote(event, key);
  }
}

function tellNote(event: Event, key: string): Item | undefined {
  switch (event.type) {
    case "error":
      return { kind: "note", key, tone: "bad", text: event.error, detail: undefined };
    case "warning":
      return { kind: "note", key, tone: "busy", text: event.message, detail: undefined };
    case "push_error":
      return {
        kind: "note",
        key,
        tone: "bad",
        text: event.branchName === undefined ? "The push failed." : `The push of ${event.branchName} failed.`,
        detail: event.error,
      };
    case "git_sync":
      if (event.status !== "failed") return undefined;
      return { kind: "note", key, tone: "bad", text: "The repository could not be brought up to date.", detail: undefined };
    default:
      return undefined;
  }
}

/** Many looks in a row say less than one line about them all. */
function gatherLooks(items: readonly Item[]): Item[] {
  const gathered: Item[] = [];
  let looks: Extract<Item, { kind: "tool" }>[] = [];
  const settle = () => {
    const [first] = looks;
    if (looks.length >= LOOKS_TOGETHER && first !== undefined) {
      gathered.push({ kind: "looks", key: `looks:${first.key}`, calls: looks.map((look) => look.call), first: true, last: true });
    } else {
      gathered.push(...looks);
    }
    looks = [];
  };
  for (const item of items) {
    if (item.kind === "tool" && LOOKS.has(kindOf(item.call.tool)) && item.call.status === "completed" && (item.call.error ?? "") === "") {
      looks.push(item);
    } else {
      settle();
      gathered.push(item);
    }
  }
  settle();
  return gathered;
}

/** Tells each tool line whether it begins and whether it ends a run of them. */
function joinNeighbours(items: readonly Item[]): Item[] {
  const isLine = (item: Item | undefined) => item?.kind === "tool" || item?.kind === "looks";
  return items.map((item, index) =>
    item.kind === "tool" || item.kind === "looks"
      ? { ...item, first: !isLine(items[index - 1]), last: !isLine(items[index + 1]) }
      : item,
  );
}

/** A finished turn in short. */
function fold(section: Section, items: readonly Item[], unfolded: ReadonlySet<string>): Item[] {
  const { prompt, end } = section;
  if (prompt === undefined || end === undefined) return [...items];
  const lastText = items.findLast((item) => item.kind === "text");
  const stays = (item: Item) => item === lastText || ["note", "question", "pull-request", "end"].includes(item.kind);
  const hidden = items.filter((item) => !stays(item));
  if (hidden.length === 0) return [...items];
  const open = unfolded.has(prompt.messageId);
  const worked: Item = {
    kind: "worked",
    key: `worked:${prompt.messageId}`,
    turn: prompt.messageId,
    open,
    durationMs: (end.timestamp - prompt.timestamp) * 1000,
    calls: section.rows.filter((row) => row.event.type === "tool_call").length,
  };
  return [worked, ...(open ? items : items.filter(stays))];
}

function changedFiles(rows: readonly Row[]): ChangedFile[] {
  const files = new Map<string, ChangedFile>();
  for (const { event } of rows) {
    if (event.type !== "tool_call" || event.fileChange === undefined) continue;
    const { path, added, removed } = event.fileChange;
    const file = files.get(path) ?? { path, added: 0, removed: 0 };
    files.set(path, { path, added: file.added + added, removed: file.removed + removed });
  }
  return [...files.values()].sort((one, other) => one.path.localeCompare(other.path));
}
