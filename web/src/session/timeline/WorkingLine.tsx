import { useSeconds } from "../../design/clock";
import { runningDuration } from "../../design/words";
import { useSession } from "../SessionContext";
import type { Turn } from "./conversation";
import styles from "./Items.module.css";
import { toolWords } from "./tools/tool-words";

/** What the agent does at this moment, and for how long it has worked. */
export function WorkingLine({ turn }: { turn: Turn }) {
  const now = useSeconds(true);
  const stopping = useSession((view) => view.stopping);
  const writing = useSession((view) => view.session.timeline.openParts.at(-1)?.kind);
  const { running } = turn;
  const words = stopping
    ? "Stopping"
    : running !== undefined
      ? toolWords(running, "running").verb
      : writing === "reasoning"
        ? "Thinking"
        : writing === "text"
          ? "Writing"
          : "Working";
  return (
    <p className={styles["working"]}>
      <span className={styles["pulse"]} aria-hidden="true" />
      {words}
      <span className={styles["time"]}>{runningDuration(now - turn.startedAt)}</span>
    </p>
  );
}
