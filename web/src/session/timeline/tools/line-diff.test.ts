import { describe, expect, it } from "vitest";
import { countLines, lineDiff, patchLines } from "./line-diff";

const shown = (lines: ReturnType<typeof lineDiff>) =>
  lines.map((line) => ({ added: "+", removed: "-", same: " ", gap: "@" })[line.kind] + line.text);

describe("what changed", () => {
  it("is told line by line, with some lines around it", () => {
    const before = ["a", "b", "c", "d", "e", "f"].join("\n");
    expect(shown(lineDiff(before, before.replace("e", "E\nE2")))).toEqual([" b", " c", " d", "-e", "+E", "+E2", " f"]);
  });

  it("leaves out what lies between two changes far apart", () => {
    const lines = Array.from({ length: 30 }, (_, index) => `line ${index}`);
    const after = lines.with(1, "one").with(28, "last");
    const diff = lineDiff(lines.join("\n"), after.join("\n"));
    expect(diff.filter((line) => line.kind === "gap").length).toBe(1);
    expect(countLines(diff)).toEqual({ added: 2, removed: 2 });
  });

  it("does not take a missing end of the last line for a change", () => {
    expect(shown(lineDiff("a\nb", "a\nB\n"))).toEqual([" a", "-b", "+B"]);
  });

  it("takes everything as new where nothing was", () => {
    expect(shown(lineDiff("", "a\nb\n"))).toEqual(["+a", "+b"]);
    expect(lineDiff("", "")).toEqual([]);
  });

  it("reads patches as they are written", () => {
    const patch = "*** Begin Patch\n*** Update File: a.ts\n@@\n same\n-old\n+new\n*** End Patch";
    expect(shown(patchLines(patch))).toEqual(["@Update File: a.ts", "@@@", " same", "-old", "+new"]);
  });
});
