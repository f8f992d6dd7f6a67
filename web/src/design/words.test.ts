import { describe, expect, it } from "vitest";
import { ago, baseName, count, dollars, duration, runningDuration } from "./words";

describe("words", () => {
  it("writes durations with the precision that their size deserves", () => {
    expect(duration(420)).toBe("0.4 s");
    expect(duration(9_960)).toBe("10 s");
    expect(duration(59_400)).toBe("59 s");
    expect(duration(59_600)).toBe("1m 00s");
    expect(duration(185_000)).toBe("3m 05s");
    expect(duration(3_720_000)).toBe("1h 02m");
    expect(duration(-5)).toBe("0.0 s");
  });

  it("writes growing durations in whole seconds", () => {
    expect(runningDuration(1_900)).toBe("1 s");
    expect(runningDuration(61_900)).toBe("1m 01s");
  });

  it("writes how long ago something was", () => {
    const now = Date.UTC(2030, 5, 15, 12);
    expect(ago(now - 20_000, now)).toBe("now");
    expect(ago(now + 20_000, now)).toBe("now");
    expect(ago(now - 5 * 60_000, now)).toBe("5m");
    expect(ago(now - 3 * 3_600_000, now)).toBe("3h");
    expect(ago(now - 2 * 86_400_000, now)).toBe("2d");
  });

  it("writes small sums with more places", () => {
    expect(dollars(1.5)).toBe("$1.50");
    expect(dollars(0.0421)).toBe("$0.042");
    expect(dollars(0.00123)).toBe("$0.0012");
  });

  it("counts in words and shortens paths", () => {
    expect(count(1, "file")).toBe("1 file");
    expect(count(2, "search", "searches")).toBe("2 searches");
    expect(baseName("src/server/index.js")).toBe("index.js");
    expect(baseName("/")).toBe("/");
  });
});
