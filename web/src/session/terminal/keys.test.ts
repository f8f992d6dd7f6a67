import { expect, it } from "vitest";
import { withControl } from "./keys";

it("types control characters for single letters and leaves the rest", () => {
  expect(["c", "C", "[", " ", "1", "ls", "\x1b[A"].map(withControl)).toEqual(["\x03", "\x03", "\x1b", "\0", "1", "ls", "\x1b[A"]);
});
