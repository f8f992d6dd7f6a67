import { describe, expect, it } from "vitest";
import type { QueuedPrompt } from "../../protocol.generated";
import type { Row } from "../timeline/timeline";
import { splitQueue } from "./split-queue";

const prompt = (messageId: string, status: "pending" | "processing" = "pending"): QueuedPrompt => ({ messageId, content: messageId, status });
const told = (messageId: string): Row => ({
  eventId: messageId, sequence: 1, revision: 1, event: { type: "user_message", messageId, content: "", timestamp: 0 },
});
const split = (...args: Parameters<typeof splitQueue>) => {
  const { first, waiting } = splitQueue(...args);
  return [first?.messageId, waiting.map((each) => each.messageId)];
};

describe("unfinished prompts", () => {
  it("shows the first in the timeline while it waits for its sandbox", () => {
    expect(split([prompt("a"), prompt("b")], [], false)).toEqual(["a", ["b"]]);
  });

  it("queues all that wait while one runs", () => {
    expect(split([prompt("a", "processing"), prompt("b")], [told("a")], true)).toEqual([undefined, ["b"]]);
  });

  it("shows each prompt in one place only", () => {
    expect(split([prompt("a"), prompt("b")], [told("a")], true)).toEqual([undefined, ["b"]]);
    expect(split([prompt("a", "processing")], [], true)).toEqual(["a", []]);
  });
});
