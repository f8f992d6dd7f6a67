import { describe, expect, it } from "vitest";
import { stretches } from "./ansi";

const plain = { colour: undefined, bold: false, dim: false };

describe("terminal output", () => {
  it("is one stretch without sequences", () => {
    expect(stretches("ok\n")).toEqual([{ text: "ok\n", ...plain }]);
    expect(stretches("")).toEqual([]);
  });

  it("carries colours and weight until they are reset", () => {
    expect(stretches("\u001b[1;31mfail\u001b[0m rest \u001b[92mpass\u001b[39m.")).toEqual([
      { text: "fail", colour: "red", bold: true, dim: false },
      { text: " rest ", ...plain },
      { text: "pass", ...plain, colour: "green" },
      { text: ".", ...plain },
    ]);
  });

  it("leaves out cursor movements, titles, bells and colours beyond the palette", () => {
    expect(stretches("\u001b[2J\u001b[1;1H\u001b]0;title\u0007a\u0007\u001b[38;5;200mb\u001b[38;2;1;2;3mc").map((s) => s.text).join("")).toBe("abc");
  });

  it("shows what a line looks like after it was written over", () => {
    expect(stretches("10%\r50%\r100%\r\ndone").map((s) => s.text).join("")).toBe("100%\ndone");
  });
});
