import type { Tone } from "../../design/StatusDot";
import type { SandboxStatus, SessionInfo } from "../../protocol.generated";

interface SandboxWords {
  tone: Tone;
  pulsing: boolean;
  /** In a word or two, for the header. */
  short: string;
  /** What it means. */
  long: string;
}

export const SANDBOX: Record<SandboxStatus, SandboxWords> = {
  pending: { tone: "idle", pulsing: false, short: "None yet", long: "A sandbox starts with the next prompt." },
  warming: { tone: "busy", pulsing: true, short: "Starting", long: "The sandbox is being started." },
  spawning: { tone: "busy", pulsing: true, short: "Starting", long: "The sandbox is being started." },
  connecting: { tone: "busy", pulsing: true, short: "Starting", long: "The sandbox is up and sets itself up." },
  syncing: { tone: "busy", pulsing: true, short: "Syncing", long: "The sandbox brings the repository up to date." },
  ready: { tone: "ok", pulsing: false, short: "Ready", long: "The sandbox is up and waits for work." },
  running: { tone: "ok", pulsing: false, short: "Running", long: "The agent works in the sandbox." },
  stale: { tone: "bad", pulsing: false, short: "Not answering", long: "The sandbox has stopped answering and will be replaced." },
  snapshotting: { tone: "busy", pulsing: true, short: "Saving", long: "The state of the sandbox is being saved." },
  stopped: { tone: "idle", pulsing: false, short: "Asleep", long: "The sandbox was stopped. It starts again with the next prompt." },
  failed: { tone: "bad", pulsing: false, short: "Failed", long: "The sandbox could not be started." },
};

/** The status of a session's sandbox; one that is ready and has work runs. */
export function sandboxStatus(session: SessionInfo | undefined): SandboxStatus {
  if (session === undefined) return "pending";
  return session.sandboxStatus === "ready" && session.isProcessing ? "running" : session.sandboxStatus;
}
