import { describe, expect, it } from "vitest";
import { markdownBlocks } from "./markdown-blocks";

describe("markdownBlocks", () => {
  it("splits at blank lines", () => {
    expect(markdownBlocks("# Title\n\nOne\nline\n\n\nTwo")).toEqual(["# Title", "One\nline", "Two"]);
  });

  it("keeps code fences whole, closed or not", () => {
    const code = "```js\nconst a = 1;\n\nconst b = 2;\n```";
    expect(markdownBlocks(`Before\n\n${code}\n\nAfter`)).toEqual(["Before", code, "After"]);
    expect(markdownBlocks("Before\n\n```\na\n\nb")).toEqual(["Before", "```\na\n\nb"]);
    expect(markdownBlocks("````\n```\n\nstill\n````\n\nout")).toEqual(["````\n```\n\nstill\n````", "out"]);
  });

  it("keeps loose lists whole", () => {
    const list = "1. one\n\n   more\n\n2. two";
    expect(markdownBlocks(`${list}\n\nAfter`)).toEqual([list, "After"]);
  });

  it("finds nothing in blank text", () => {
    expect(markdownBlocks("")).toEqual([]);
    expect(markdownBlocks("\n \n")).toEqual([]);
  });

  it("never changes a block that a longer text has closed", () => {
    const text = "Intro\n\n- a\n- b\n\n```sh\nls\n\npwd\n```\n\nThe end\n\nof it";
    let before: string[] = [];
    for (let length = 1; length <= text.length; length += 1) {
      const now = markdownBlocks(text.slice(0, length));
      expect(now.slice(0, Math.max(0, before.length - 1))).toEqual(before.slice(0, -1));
      before = now;
    }
  });
});
