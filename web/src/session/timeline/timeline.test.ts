import { describe, expect, it } from "vitest";
import type { Event, OpenPart, ServerMessage, SessionInfo, TimelineEvent } from "../../protocol.generated";
import {
  applyDelta,
  applyDone,
  applyEvent,
  applyHistory,
  applySubscribed,
  EMPTY_TIMELINE,
  type Timeline,
} from "./timeline";

const text = (timeline: Timeline) => timeline.rows.map((row) => row.eventId);

function event(messageId: string): Event {
  return { type: "context_compacted", messageId, sandboxId: "s", timestamp: 1 };
}

function row(sequence: number, revision = sequence, eventId = `e${sequence}`): TimelineEvent {
  return { eventId, timelineSequence: sequence, revision, event: event(`m${sequence}.${revision}`) };
}

function live(item: TimelineEvent): Extract<ServerMessage, { type: "sandbox_event" }> {
  return { type: "sandbox_event", ...item };
}

interface Page {
  mode?: "delta" | "snapshot";
  events?: TimelineEvent[];
  revision?: number;
  hasMore?: boolean;
  openParts?: OpenPart[];
}

function subscribed(page: Page): Extract<ServerMessage, { type: "subscribed" }> {
  const events = page.events ?? [];
  const first = events[0];
  return {
    type: "subscribed",
    dialect: 2,
    participantId: "p",
    participant: { participantId: "p", name: "Ada" },
    session: {} as SessionInfo,
    artifacts: [],
    promptQueue: [],
    spawnError: null,
    openParts: page.openParts ?? [],
    revision: page.revision ?? 0,
    timeline: {
      mode: page.mode ?? "snapshot",
      events,
      hasMore: page.hasMore ?? false,
      cursor:
        first === undefined || page.mode === "delta"
          ? null
          : { timestamp: 1, id: first.eventId, sequence: first.timelineSequence },
    },
  };
}

function delta(offset: number, added: string, partId = "p1"): Extract<ServerMessage, { type: "part_delta" }> {
  return { type: "part_delta", messageId: "m", partId, kind: "text", offset, text: added };
}

function done(length: number, whole?: string): Extract<ServerMessage, { type: "part_done" }> {
  return {
    type: "part_done",
    messageId: "m",
    partId: "p1",
    kind: "text",
    length,
    ...(whole === undefined ? {} : { text: whole }),
    eventId: "part:m:p1",
    timelineSequence: 3,
    revision: 3,
    timestamp: 9,
  };
}

describe("streamed text", () => {
  it("cuts a part at the offset and appends", () => {
    let timeline = applyDelta(EMPTY_TIMELINE, delta(0, "Hello")).timeline;
    timeline = applyDelta(timeline, delta(5, ", wor")).timeline;
    timeline = applyDelta(timeline, delta(7, "there")).timeline;
    expect(timeline.openParts).toEqual([{ messageId: "m", partId: "p1", kind: "text", text: "Hello, there" }]);
  });

  it("counts offsets in UTF-16 units", () => {
    const first = applyDelta(EMPTY_TIMELINE, delta(0, "a🦀b")).timeline;
    expect(applyDelta(first, delta(4, "c")).timeline.openParts[0]?.text).toBe("a🦀bc");
    expect(applyDelta(first, delta(3, "c")).timeline.openParts[0]?.text).toBe("a🦀c");
  });

  it("is harmless when a delta is repeated", () => {
    const once = applyDelta(EMPTY_TIMELINE, delta(0, "Hello")).timeline;
    expect(applyDelta(once, delta(0, "Hello")).timeline.openParts).toEqual(once.openParts);
  });

  it("asks to subscribe again when an offset lies beyond what it holds", () => {
    const held = applyDelta(EMPTY_TIMELINE, delta(0, "Hello")).timeline;
    expect(applyDelta(held, delta(6, "x"))).toEqual({ timeline: held, missed: true });
    expect(applyDelta(EMPTY_TIMELINE, delta(1, "x")).missed).toBe(true);
  });

  it("turns an open part into a row when it is done", () => {
    const open = { ...applyDelta(EMPTY_TIMELINE, delta(0, "Hello")).timeline, revision: 2 };
    const { timeline, missed } = applyDone(open, done(5));
    expect(missed).toBe(false);
    expect(timeline.openParts).toEqual([]);
    expect(timeline.revision).toBe(3);
    expect(timeline.rows[0]?.event).toMatchObject({ type: "part", text: "Hello", partId: "p1" });
  });

  it("takes the whole text of a part that it never saw", () => {
    const { timeline } = applyDone({ ...EMPTY_TIMELINE, revision: 2 }, done(3, "all"));
    expect(timeline.rows[0]?.event).toMatchObject({ text: "all" });
  });

  it("asks to subscribe again when a finished part is longer than what it holds", () => {
    const open = applyDelta(EMPTY_TIMELINE, delta(0, "Hel")).timeline;
    expect(applyDone(open, done(5))).toEqual({ timeline: open, missed: true });
    expect(applyDone(EMPTY_TIMELINE, done(5)).missed).toBe(true);
  });

  it("drops provisional text on each connect and takes the open parts of the answer", () => {
    const held = applyDelta(EMPTY_TIMELINE, delta(0, "provisional", "other")).timeline;
    const part: OpenPart = { messageId: "m", partId: "p1", kind: "text", text: "whole" };
    expect(applySubscribed(held, subscribed({ mode: "delta", openParts: [part] })).openParts).toEqual([part]);
  });
});

describe("stored events", () => {
  it("orders by place, whatever the order of arrival", () => {
    let timeline: Timeline = EMPTY_TIMELINE;
    for (const [sequence, revision] of [
      [1, 1],
      [4, 2],
      [2, 3],
      [3, 4],
    ] as const) {
      timeline = applyEvent(timeline, live(row(sequence, revision))).timeline;
    }
    expect(text(timeline)).toEqual(["e1", "e2", "e3", "e4"]);
    expect(timeline.revision).toBe(4);
  });

  it("holds each event once and keeps the newest form in its place", () => {
    let timeline = applySubscribed(EMPTY_TIMELINE, subscribed({ events: [row(1), row(2)], revision: 2 }));
    timeline = applyEvent(timeline, live(row(1, 3, "e1"))).timeline;
    expect(text(timeline)).toEqual(["e1", "e2"]);
    expect(timeline.rows[0]?.event).toMatchObject({ messageId: "m1.3" });
    timeline = applyEvent(timeline, live(row(1, 1, "e1"))).timeline;
    expect(timeline.rows[0]?.event).toMatchObject({ messageId: "m1.3" });
  });

  it("ignores events that are not stored", () => {
    const { timeline } = applyEvent(EMPTY_TIMELINE, {
      type: "sandbox_event",
      event: { type: "step_finish", messageId: "m", cost: 1, sandboxId: "s", timestamp: 1 },
    });
    expect(timeline).toBe(EMPTY_TIMELINE);
  });

  it("notices a revision that was skipped, shows the event and resumes before the gap", () => {
    const held = applySubscribed(EMPTY_TIMELINE, subscribed({ events: [row(1)], revision: 1 }));
    const { timeline, missed } = applyEvent(held, live(row(3)));
    expect(missed).toBe(true);
    expect(text(timeline)).toEqual(["e1", "e3"]);
    expect(timeline.revision).toBe(1);
  });

  it("keeps the head and the tail of an output that is too long", () => {
    const output = `head${"x".repeat(200_000)}tail`;
    const { timeline } = applyEvent(EMPTY_TIMELINE, {
      ...live(row(1)),
      event: { type: "tool_call", messageId: "m", tool: "bash", args: {}, callId: "c", output, sandboxId: "s", timestamp: 1 },
    });
    const held = timeline.rows[0]?.event;
    if (held?.type !== "tool_call") throw new Error("not a tool call");
    expect(held.truncated).toBe(true);
    expect(held.output?.length).toBeLessThan(70_000);
    expect(held.output).toMatch(/^head[\s\S]*tail$/);
  });

  it("shortens the oldest outputs when all together are too long", () => {
    let timeline: Timeline = EMPTY_TIMELINE;
    for (let sequence = 1; sequence <= 200; sequence += 1) {
      timeline = applyEvent(timeline, {
        ...live(row(sequence)),
        event: { type: "tool_call", messageId: "m", tool: "bash", args: {}, callId: `c${sequence}`, output: "y".repeat(60_000), sandboxId: "s", timestamp: 1 },
      }).timeline;
    }
    const lengths = timeline.rows.map((r) => (r.event.type === "tool_call" ? (r.event.output?.length ?? 0) : 0));
    expect(lengths.reduce((a, b) => a + b)).toBeLessThanOrEqual(8 * 1024 * 1024);
    expect(lengths[0]).toBeLessThan(3_000);
    expect(lengths.at(-1)).toBe(60_000);
  });
});

describe("resuming", () => {
  const held = applySubscribed(
    EMPTY_TIMELINE,
    subscribed({ events: [row(10), row(11), row(12)], revision: 12, hasMore: true }),
  );

  it("replaces everything with a snapshot", () => {
    const timeline = applySubscribed(held, subscribed({ events: [row(20)], revision: 20, hasMore: true }));
    expect(text(timeline)).toEqual(["e20"]);
    expect(timeline.cursor).toMatchObject({ id: "e20" });
  });

  it("adds a delta to what it holds and keeps its own cursor", () => {
    const timeline = applySubscribed(
      held,
      subscribed({ mode: "delta", events: [row(14, 14), row(11, 15), row(13, 16)], revision: 16 }),
    );
    expect(text(timeline)).toEqual(["e10", "e11", "e12", "e13", "e14"]);
    expect(timeline.rows[1]?.revision).toBe(15);
    expect(timeline).toMatchObject({ revision: 16, hasMore: true, cursor: { id: "e10" } });
  });

  it("removes rows that a delta names as removed", () => {
    const removal = { eventId: "e11", revision: 13, removed: true } as unknown as TimelineEvent;
    const timeline = applySubscribed(held, subscribed({ mode: "delta", events: [removal], revision: 13 }));
    expect(text(timeline)).toEqual(["e10", "e12"]);
  });

  it("leaves changed rows of older pages to their page", () => {
    const timeline = applySubscribed(held, subscribed({ mode: "delta", events: [row(2, 13)], revision: 13 }));
    expect(text(timeline)).toEqual(["e10", "e11", "e12"]);
    const next = applyEvent(timeline, live(row(3, 14))).timeline;
    expect(text(next)).toEqual(["e10", "e11", "e12"]);
    expect(next.revision).toBe(14);
  });

  it("ends up the same whether it watched or resumed", () => {
    let watched = held;
    for (const item of [row(13, 13), row(14, 14), row(13, 15), row(15, 16)]) {
      watched = applyEvent(watched, live(item)).timeline;
    }
    const resumed = applySubscribed(
      held,
      subscribed({ mode: "delta", events: [row(14, 14), row(13, 15), row(15, 16)], revision: 16 }),
    );
    expect(resumed).toEqual(watched);
  });
});

describe("older pages", () => {
  it("go before what is held, once, and move the cursor", () => {
    const held = applySubscribed(EMPTY_TIMELINE, subscribed({ events: [row(5), row(6)], revision: 9, hasMore: true }));
    const timeline = applyHistory(held, {
      type: "history_page",
      items: [row(3), row(4), row(5, 4)],
      hasMore: true,
      cursor: { timestamp: 1, id: "e3", sequence: 3 },
    });
    expect(text(timeline)).toEqual(["e3", "e4", "e5", "e6"]);
    expect(timeline.rows[2]?.revision).toBe(5);
    expect(timeline.cursor?.id).toBe("e3");
    expect(timeline.revision).toBe(9);
  });

  it("end with an empty page", () => {
    const held = applySubscribed(EMPTY_TIMELINE, subscribed({ events: [row(5)], revision: 5, hasMore: true }));
    const timeline = applyHistory(held, { type: "history_page", items: [], hasMore: false, cursor: null });
    expect(timeline.hasMore).toBe(false);
    expect(text(timeline)).toEqual(["e5"]);
  });
});
