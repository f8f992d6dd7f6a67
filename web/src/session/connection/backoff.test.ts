import { describe, expect, it } from "vitest";
import { backoff } from "./backoff";

describe("backoff", () => {
  it("doubles up to half a minute and stays there", () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7, 400].map((attempt) => backoff(attempt, 0.999_999))).toEqual([
      500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000,
    ]);
  });

  it("takes at least half of it", () => {
    expect(backoff(0, 0)).toBe(250);
    expect(backoff(50, 0)).toBe(15_000);
  });
});
