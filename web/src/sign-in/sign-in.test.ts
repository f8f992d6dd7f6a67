import { describe, expect, it } from "vitest";
import { reasonForPerson } from "./reasons";
import { safePath } from "./safe-path";

describe("signing in", () => {
  it.each([
    [null, "/"],
    ["/session/abc?x=1", "/session/abc?x=1"],
    ["//evil.example", "/"],
    ["/\\evil.example", "/"],
    ["https://evil.example", "/"],
    ["javascript:alert(1)", "/"],
    ["/login?next=/login", "/"],
  ])("goes back to %s as %s", (wanted, path) => {
    expect(safePath(wanted)).toBe(path);
  });

  it("tells why it failed, in words for a person", () => {
    expect(reasonForPerson(null)).toBeUndefined();
    expect(reasonForPerson("ACCESS_DENIED")).toMatch(/may not use/);
    expect(reasonForPerson("some<b>thing")).toBe("Signing in failed (some b thing). Try again.");
  });
});
