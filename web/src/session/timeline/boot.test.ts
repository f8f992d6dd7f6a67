import { describe, expect, it } from "vitest";
import type { BootProgress } from "../../protocol.generated";
import { bootOf, phaseWords } from "./boot";

const phase = (status: BootProgress["status"], startedAt: number, durationMs?: number): BootProgress => ({
  phase: "clone",
  status,
  startedAt,
  ...(durationMs === undefined ? {} : { durationMs }),
  sandboxId: "s",
  timestamp: 0,
});

describe("the start of a sandbox", () => {
  it("lasts from its first phase to the end of its last, which may overlap", () => {
    const boot = bootOf([phase("completed", 100, 900), phase("completed", 200, 1500)], true, false);
    expect(boot).toEqual({ state: "done", startedAt: 100, endedAt: 1700 });
  });

  it.each([
    ["completed", false, false, "running"],
    ["started", false, false, "running"],
    ["started", false, true, "abandoned"],
    ["failed", false, false, "failed"],
    ["failed", true, false, "done"],
  ] as const)("with a phase %s, ready %s, sandbox gone %s: %s", (status, ready, gone, state) => {
    expect(bootOf([phase(status, 0)], ready, gone).state).toBe(state);
  });

  it("names phases that it does not know by their own name", () => {
    expect(phaseWords("clone")).toBe("Clone the repository");
    expect(phaseWords("warm_cache")).toBe("Warm cache");
  });
});
