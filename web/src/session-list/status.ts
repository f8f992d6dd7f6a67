import type { Tone } from "../design/StatusDot";
import type { SessionStatus } from "../protocol.generated";

/** How the status of a session is shown and told. */
export const STATUS: Record<SessionStatus, { tone: Tone; pulsing: boolean; words: string }> = {
  created: { tone: "idle", pulsing: false, words: "New" },
  active: { tone: "busy", pulsing: true, words: "Working" },
  completed: { tone: "quiet", pulsing: false, words: "Done" },
  failed: { tone: "bad", pulsing: false, words: "Failed" },
  archived: { tone: "idle", pulsing: false, words: "Archived" },
  cancelled: { tone: "idle", pulsing: false, words: "Cancelled" },
};
