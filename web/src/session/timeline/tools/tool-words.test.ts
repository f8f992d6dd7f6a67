import { describe, expect, it } from "vitest";
import type { ToolCall } from "../../../protocol.generated";
import { stateOf, toolWords } from "./tool-words";

function call(tool: string, args: Record<string, unknown>, rest: Partial<ToolCall> = {}): ToolCall {
  return { messageId: "m", tool, args, callId: "c", sandboxId: "s", timestamp: 0, ...rest };
}

const told = (tool: string, args: Record<string, unknown>, running = false) => {
  const words = toolWords(call(tool, args), running ? "running" : "done");
  return `${words.verb} ${words.subject}`.trim();
};

describe("a tool call in words", () => {
  it.each([
    ["read", { filePath: "src/server/index.js" }, "Read index.js"],
    ["edit", { file_path: "/work/app/README.md" }, "Edited README.md"],
    ["write", { filePath: "a/new.ts" }, "Wrote new.ts"],
    ["apply_patch", { patchText: "*** Begin Patch\n*** Update File: a/b.ts\n*** End Patch" }, "Edited b.ts"],
    ["apply_patch", { patchText: "*** Add File: a\n*** Delete File: b" }, "Edited 2 files"],
    ["bash", { command: "npm test\nnpm run lint" }, "Ran npm test"],
    ["grep", { pattern: "TODO" }, "Searched “TODO”"],
    ["glob", { pattern: "**/*.rs" }, "Listed **/*.rs"],
    ["todowrite", { todos: [1, 2] }, "Planned 2 steps"],
    ["oi_create-pull-request", { title: "Fix the greeting" }, "Opened pull request Fix the greeting"],
    ["oi_spawn-task", { name: "docs" }, "Spawn task docs"],
    ["bash", {}, "Ran a command"],
  ])("%s is told plainly", (tool, args, words) => {
    expect(told(tool, args)).toBe(words);
  });

  it("is told in the present while it runs", () => {
    expect(told("bash", { command: "npm test" }, true)).toBe("Running npm test");
  });

  it("survives arguments of unexpected types", () => {
    expect(told("read", { filePath: 7 })).toBe("Read a file");
    expect(told("odd__tool", { deep: {} })).toBe("Odd tool");
  });
});

describe("the state of a tool call", () => {
  it.each([
    [{ status: "running" }, false, "running"],
    [{ status: "pending" }, false, "running"],
    [{ status: "running" }, true, "interrupted"],
    [{ status: "completed", output: "" }, false, "done"],
    [{ status: "completed", exitCode: 1 }, false, "failed"],
    [{ status: "error" }, false, "failed"],
    [{ status: "completed", error: "no such file" }, false, "failed"],
    [{ output: "old bridge" }, false, "done"],
  ] as const)("%o, turn ended %s: %s", (rest, ended, state) => {
    expect(stateOf(call("bash", {}, rest), ended)).toBe(state);
  });
});
