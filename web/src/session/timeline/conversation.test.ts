import { describe, expect, it } from "vitest";
import type { Event, InputState, ToolCall } from "../../protocol.generated";
import { tellAll, tellRows, type Item } from "./conversation";
import { EMPTY_TIMELINE, type Row } from "./timeline";

let sequence = 0;

function row(event: Event): Row {
  sequence += 1;
  return { eventId: `e${sequence}`, sequence, revision: sequence, event };
}

const at = (timestamp: number) => ({ sandboxId: "s", timestamp });
const prompt = (messageId: string, timestamp = 0) => row({ type: "user_message", messageId, content: messageId, timestamp });
const text = (messageId: string, words: string) =>
  row({ type: "part", messageId, partId: words, kind: "text", text: words, ...at(1) });
const reasoning = (messageId: string, words: string) =>
  row({ type: "part", messageId, partId: words, kind: "reasoning", text: words, ...at(1) });
const tool = (messageId: string, name: string, rest: Partial<ToolCall> = {}) =>
  row({ type: "tool_call", messageId, tool: name, args: {}, callId: `c${sequence}`, status: "completed", ...at(1), ...rest });
const end = (messageId: string, timestamp = 60, error?: string) =>
  row({ type: "execution_complete", messageId, success: error === undefined, ...(error === undefined ? {} : { error }), ...at(timestamp) });

const kinds = (items: readonly Item[]) => items.map((item) => item.kind);
const tell = (...rows: Row[]) => tellRows(rows, new Set());

describe("the conversation", () => {
  it("tells a turn in order", () => {
    const told = tell(prompt("m1"), reasoning("m1", "hm"), text("m1", "Looking"), tool("m1", "bash"), text("m1", "Done"), end("m1"));
    expect(kinds(told.items)).toEqual(["prompt", "reasoning", "text", "tool", "text", "end"]);
    expect(told.items.at(-1)).toMatchObject({ outcome: "done", durationMs: 60_000 });
    expect(told.latest).toMatchObject({ messageId: "m1", ended: true });
  });

  it("keeps every text between tool calls", () => {
    const told = tell(prompt("m1"), text("m1", "one"), tool("m1", "edit"), text("m1", "two"), tool("m1", "bash"), text("m1", "three"));
    expect(told.items.flatMap((item) => (item.kind === "text" ? [item.text] : []))).toEqual(["one", "two", "three"]);
  });

  it("folds finished turns but the newest, to what a person must still see", () => {
    const rows = [
      prompt("m1"), text("m1", "first"), tool("m1", "bash"), row({ type: "error", messageId: "m1", error: "oops", ...at(2) }),
      text("m1", "last"), row({ type: "artifact", artifactType: "pr", url: "u", ...at(3) }), end("m1"),
      prompt("m2"), tool("m2", "bash"), text("m2", "second"), end("m2"),
    ];
    const folded = tellRows(rows, new Set());
    expect(kinds(folded.items)).toEqual([
      "prompt", "worked", "note", "text", "pull-request", "end",
      "prompt", "tool", "text", "end",
    ]);
    expect(folded.items[1]).toMatchObject({ turn: "m1", open: false, calls: 1, durationMs: 60_000 });
    expect(folded.items[3]).toMatchObject({ text: "last" });
    const unfolded = tellRows(rows, new Set(["m1"]));
    expect(kinds(unfolded.items).slice(0, 6)).toEqual(["prompt", "worked", "text", "tool", "note", "text"]);
  });

  it("keeps a question in sight, with what it says now", () => {
    const question = (state: InputState) =>
      row({ type: "input_request", requestId: "q1", messageId: "m1", kind: "question", prompt: "Which?", state, ...at(2) });
    const asked = [prompt("m1"), question("waiting")];
    expect(kinds(tell(...asked).items)).toEqual(["prompt", "question"]);
    expect(tell(...asked).asking).toBe(true);
    const later = [prompt("m1"), question("answered"), tool("m1", "bash"), text("m1", "Done"), end("m1"), prompt("m2"), end("m2")];
    expect(kinds(tell(...later).items)).toEqual(["prompt", "worked", "question", "text", "end", "prompt", "end"]);
    expect(tell(...later).asking).toBe(false);
  });

  it("does not fold a turn that has not ended", () => {
    expect(kinds(tell(prompt("m1"), tool("m1", "bash"), prompt("m2")).items)).toEqual(["prompt", "tool", "prompt"]);
  });

  it("keeps the key of a part from the first delta to its row", () => {
    const open = tellAll(tell(prompt("m")), { ...EMPTY_TIMELINE, openParts: [{ messageId: "m", partId: "p", kind: "text", text: "Hel" }] }, undefined);
    expect(open.at(-1)).toEqual({ kind: "text", key: "part:m:p", text: "Hel", writing: true });
  });

  it("shows a prompt that waits under the key that it will have when it runs", () => {
    const waiting = tellAll(tell(), EMPTY_TIMELINE, { messageId: "m1", content: "hi", status: "pending" });
    expect(waiting[0]?.key).toBe(tell(prompt("m1")).items[0]?.key);
  });

  it("joins reasoning that follows reasoning, stored or being written", () => {
    const told = tell(prompt("m"), reasoning("m", "one"), reasoning("m", "two"));
    expect(kinds(told.items)).toEqual(["prompt", "reasoning"]);
    const all = tellAll(told, { ...EMPTY_TIMELINE, openParts: [{ messageId: "m", partId: "x", kind: "reasoning", text: "three" }] }, undefined);
    expect(all.at(-1)).toMatchObject({ texts: ["one", "two", "three"], writing: true });
  });

  it("tells three looks in a row in one line, and fewer one by one", () => {
    const told = tell(prompt("m"), tool("m", "read"), tool("m", "grep"), tool("m", "glob"), tool("m", "bash"), tool("m", "read"), tool("m", "read"));
    expect(kinds(told.items)).toEqual(["prompt", "looks", "tool", "tool", "tool"]);
    expect(told.items.slice(1).map((item) => ("first" in item ? [item.first, item.last] : []))).toEqual([
      [true, false], [false, false], [false, false], [false, true],
    ]);
  });

  it("puts the calls of a sub-agent under the task that started it, and strays inline", () => {
    const told = tell(
      prompt("m"),
      tool("m", "task", { callId: "t1" }),
      tool("m", "bash", { callId: "n1", isSubtask: true, taskCallId: "t1" }),
      tool("m", "bash", { callId: "n2", isSubtask: true, taskCallId: "unknown" }),
    );
    expect(kinds(told.items)).toEqual(["prompt", "tool", "tool"]);
    expect(told.items[1]).toMatchObject({ nested: [{ callId: "n1" }] });
  });

  it("tells each start of a sandbox once, with its phases in their last form", () => {
    const boot = (sandboxId: string, phase: string, status: "started" | "completed") =>
      row({ type: "boot_progress", phase, status, startedAt: 0, sandboxId, timestamp: 0 });
    const told = tell(
      boot("a", "clone", "started"), boot("a", "clone", "completed"), boot("a", "agent", "started"),
      row({ type: "ready", sandboxId: "a", timestamp: 0 }),
      prompt("m"), boot("b", "clone", "started"),
    );
    expect(kinds(told.items)).toEqual(["boot", "prompt", "boot"]);
    expect(told.items[0]).toMatchObject({ ready: true, phases: [{ phase: "clone", status: "completed" }, { phase: "agent" }] });
    expect(told.items[2]).toMatchObject({ ready: false });
  });

  it("tells how a run ended", () => {
    const stopped = row({ type: "execution_complete", messageId: "m", success: false, outcome: "stopped", ...at(5) });
    expect(tell(prompt("m"), stopped).items.at(-1)).toMatchObject({ kind: "end", outcome: "stopped" });
    expect(tell(prompt("m"), end("m", 9, "out of memory")).items.at(-1)).toMatchObject({ outcome: "failed", error: "out of memory" });
  });

  it("adds up the lines that were changed in each file", () => {
    const change = (path: string, added: number, removed: number) => tool("m", "edit", { fileChange: { path, added, removed } });
    expect(tell(prompt("m"), change("b", 1, 2), change("a", 3, 0), change("b", 4, 1)).files).toEqual([
      { path: "a", added: 3, removed: 0 },
      { path: "b", added: 5, removed: 3 },
    ]);
  });
});
