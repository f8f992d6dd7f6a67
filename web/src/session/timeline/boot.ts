import type { BootProgress } from "../../protocol.generated";

export interface Boot {
  state: "running" | "done" | "failed" | "abandoned";
  /** In ms. */
  startedAt: number;
  endedAt: number;
}

/**
 * What the phases of a start come to.
 *
 * @param ready whether its agent said that it is there
 * @param gone whether the session has no sandbox that lives
 */
export function bootOf(phases: readonly BootProgress[], ready: boolean, gone: boolean): Boot {
  const startedAt = Math.min(...phases.map((phase) => phase.startedAt));
  const endedAt = Math.max(...phases.map((phase) => phase.startedAt + (phase.durationMs ?? 0)));
  const state = phases.some((phase) => phase.status === "failed")
    ? ready
      ? "done"
      : "failed"
    : ready
      ? "done"
      : gone
        ? "abandoned"
        : "running";
  return { state, startedAt, endedAt };
}

const WORDS: Record<string, string> = {
  sandbox: "Create the sandbox",
  workspace: "Prepare the workspace",
  credentials: "Get access to the repository",
  clone: "Clone the repository",
  sync: "Bring the repository up to date",
  fetch: "Bring the repository up to date",
  skills: "Fetch the skills",
  tunnels: "Wait for the open ports",
  "code-server": "Start the editor",
  desktop: "Start the desktop",
  checkout: "Check out the branch",
  setup: "Run the set-up script",
  hooks: "Run the start hooks",
  start: "Run the start script",
  agent: "Start the agent",
  bridge: "Connect to the session",
  tools: "Offer the tools",
  model: "Reach the model",
};

/** A phase in words; its own name for one that is not known here. */
export function phaseWords(phase: string): string {
  const known = WORDS[phase];
  if (known !== undefined) return known;
  const words = phase.replace(/[-_]+/g, " ").trim();
  return words.charAt(0).toLocaleUpperCase() + words.slice(1);
}
