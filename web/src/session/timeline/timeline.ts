import type {
  Event,
  HistoryCursor,
  OpenPart,
  ServerMessage,
  Timeline as WireTimeline,
  TimelineEvent,
} from "../../protocol.generated";

/**
 * The client's copy of a session's timeline, by the rules of dialect 2: rows stand at their `timelineSequence`, are known by
 * `eventId`, and change only to a higher `revision`; text that is being written is held apart until its row comes.
 */
export interface Timeline {
  /** Stored events by place, oldest first. */
  readonly rows: readonly Row[];
  /** Text that is being written, in the order in which it began. */
  readonly openParts: readonly OpenPart[];
  /** Every change up to here is in `rows`; what a reconnection resumes after. */
  readonly revision: number;
  /** Whether older rows exist that are not held. */
  readonly hasMore: boolean;
  /** Where older rows begin. */
  readonly cursor: HistoryCursor | null;
}

export interface Row {
  readonly eventId: string;
  readonly sequence: number;
  readonly revision: number;
  readonly event: Event;
}

/** A new copy, and whether something was missed, so that the client must subscribe again. */
export interface Applied {
  readonly timeline: Timeline;
  readonly missed: boolean;
}

export const EMPTY_TIMELINE: Timeline = { rows: [], openParts: [], revision: 0, hasMore: false, cursor: null };

/** Longest output of one tool call that is held, in UTF-16 units; the middle of a longer one is left out. */
const OUTPUT_MAX = 64 * 1024;
/** Outputs of all tool calls together, in UTF-16 units; beyond it the oldest are shortened. */
const OUTPUTS_MAX = 8 * 1024 * 1024;
/** What is left of an output that was shortened to keep within `OUTPUTS_MAX`. */
const OUTPUT_SHORT = 2 * 1024;

type Removal = { eventId: string; removed: true; revision?: number };
type Subscribed = Extract<ServerMessage, { type: "subscribed" }>;
type PartDelta = Extract<ServerMessage, { type: "part_delta" }>;
type PartDone = Extract<ServerMessage, { type: "part_done" }>;
type SandboxEvent = Extract<ServerMessage, { type: "sandbox_event" }>;
type HistoryPage = Extract<ServerMessage, { type: "history_page" }>;

/** Takes the answer to `subscribe`: a whole new page, or what changed since the revision that was held. */
export function applySubscribed(held: Timeline, message: Subscribed): Timeline {
  const openParts = message.openParts ?? [];
  const incoming: WireTimeline = message.timeline;
  if (incoming.mode !== "delta") {
    return {
      rows: merge([], incoming.events, undefined),
      openParts,
      revision: message.revision ?? 0,
      hasMore: incoming.hasMore,
      cursor: incoming.cursor,
    };
  }
  return {
    ...held,
    rows: merge(held.rows, incoming.events, held.hasMore ? held.rows[0]?.sequence : undefined),
    openParts,
    revision: message.revision ?? held.revision,
  };
}

/** Takes one stored event. One that is not stored changes nothing here. */
export function applyEvent(held: Timeline, message: SandboxEvent): Applied {
  const { eventId, timelineSequence, revision, event } = message;
  if (eventId === undefined || timelineSequence === undefined) return { timeline: held, missed: false };
  const row: TimelineEvent = { eventId, timelineSequence, event };
  if (revision !== undefined) row.revision = revision;
  const openParts =
    event.type === "part" ? withoutPart(held.openParts, event.messageId, event.partId) : held.openParts;
  return advance({ ...held, openParts, rows: put(held, row) }, revision);
}

/** Takes more text of an open part: cut at the offset, append. */
export function applyDelta(held: Timeline, message: PartDelta): Applied {
  const { messageId, partId, kind, offset, text } = message;
  const index = held.openParts.findIndex((part) => part.partId === partId && part.messageId === messageId);
  const known = held.openParts[index]?.text ?? "";
  if (offset > known.length) return { timeline: held, missed: true };
  const part: OpenPart = { messageId, partId, kind, text: known.slice(0, offset) + text };
  const openParts = index === -1 ? [...held.openParts, part] : held.openParts.with(index, part);
  return { timeline: { ...held, openParts }, missed: false };
}

/** Takes the end of a part: it becomes a row. */
export function applyDone(held: Timeline, message: PartDone): Applied {
  const { messageId, partId, kind, eventId, timelineSequence, revision, timestamp } = message;
  const open = held.openParts.find((part) => part.partId === partId && part.messageId === messageId);
  const text = message.text ?? open?.text;
  if (text?.length !== message.length) return { timeline: held, missed: true };
  const row: TimelineEvent = {
    eventId,
    timelineSequence,
    revision,
    event: { type: "part", messageId, partId, kind, text, sandboxId: "", timestamp },
  };
  return advance(
    { ...held, openParts: withoutPart(held.openParts, messageId, partId), rows: put(held, row) },
    revision,
  );
}

/** Takes a page of older rows. */
export function applyHistory(held: Timeline, message: HistoryPage): Timeline {
  return {
    ...held,
    rows: merge(held.rows, message.items, undefined),
    hasMore: message.hasMore,
    // An empty page ends the history where it was.
    cursor: message.cursor ?? held.cursor,
  };
}

/** Live revisions are gapless: one that is not the next says that something was missed. */
function advance(timeline: Timeline, revision: number | undefined): Applied {
  if (revision === undefined || revision <= timeline.revision) return { timeline, missed: false };
  if (revision > timeline.revision + 1) return { timeline, missed: true };
  return { timeline: { ...timeline, revision }, missed: false };
}

function withoutPart(parts: readonly OpenPart[], messageId: string, partId: string): readonly OpenPart[] {
  const kept = parts.filter((part) => part.partId !== partId || part.messageId !== messageId);
  return kept.length === parts.length ? parts : kept;
}

function toRow(wire: TimelineEvent): Row {
  return {
    eventId: wire.eventId,
    sequence: wire.timelineSequence,
    revision: wire.revision ?? 0,
    event: bounded(wire.event),
  };
}

/** The place of a sequence number: its index, or where it would go. */
function placeOf(rows: readonly Row[], sequence: number): number {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((rows[middle]?.sequence ?? 0) < sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Inserts or replaces one row. Rows before the held page are left out: they come with their page. */
function put(held: Timeline, wire: TimelineEvent): readonly Row[] {
  const { rows, hasMore } = held;
  const row = toRow(wire);
  const place = placeOf(rows, row.sequence);
  const there = rows[place];
  if (there?.sequence === row.sequence) {
    return there.revision > row.revision ? rows : withinBudget(rows.with(place, row));
  }
  if (place === 0 && hasMore && rows.length > 0) return rows;
  if (rows.some((other) => other.eventId === row.eventId)) return merge(rows, [wire], undefined);
  return withinBudget(place === rows.length ? [...rows, row] : rows.toSpliced(place, 0, row));
}

/** Merges many rows; `floor` is the place before which rows are left out. */
function merge(
  rows: readonly Row[],
  incoming: readonly (TimelineEvent | Removal)[],
  floor: number | undefined,
): readonly Row[] {
  const byId = new Map(rows.map((row) => [row.eventId, row]));
  for (const wire of incoming) {
    if ("removed" in wire) {
      byId.delete(wire.eventId);
      continue;
    }
    const known = byId.get(wire.eventId);
    if (floor !== undefined && wire.timelineSequence < floor && known === undefined) continue;
    if (known === undefined || known.revision <= (wire.revision ?? 0)) byId.set(wire.eventId, toRow(wire));
  }
  return withinBudget([...byId.values()].sort((one, other) => one.sequence - other.sequence));
}

function bounded(event: Event): Event {
  if (event.type !== "tool_call" || (event.output?.length ?? 0) <= OUTPUT_MAX) return event;
  return { ...event, output: shorten(event.output ?? "", OUTPUT_MAX), truncated: true };
}

/** The head and the tail of a text, without splitting a character. */
function shorten(text: string, length: number): string {
  const half = Math.floor(length / 2);
  const head = text.slice(0, half).replace(/[\uD800-\uDBFF]$/, "");
  const tail = text.slice(-half).replace(/^[\uDC00-\uDFFF]/, "");
  return `${head}\n\n… ${(text.length - head.length - tail.length).toLocaleString()} characters left out …\n\n${tail}`;
}

function outputLength(row: Row): number {
  return row.event.type === "tool_call" ? (row.event.output?.length ?? 0) : 0;
}

/** Shortens the oldest outputs once all together are too long for one page. */
function withinBudget(rows: readonly Row[]): readonly Row[] {
  let excess = rows.reduce((sum, row) => sum + outputLength(row), 0) - OUTPUTS_MAX;
  if (excess <= 0) return rows;
  return rows.map((row) => {
    if (excess <= 0 || row.event.type !== "tool_call" || outputLength(row) <= OUTPUT_SHORT * 2) return row;
    const output = shorten(row.event.output ?? "", OUTPUT_SHORT);
    excess -= outputLength(row) - output.length;
    return { ...row, event: { ...row.event, output, truncated: true } };
  });
}
