import { useSeconds } from "../../design/clock";
import { runningDuration } from "../../design/words";
import { useSession } from "../SessionContext";
import type { Turn } from "./conversation";
import styles from "./Items.module.css";

/** That the agent works, and for how long. What it does stands above. */
export function WorkingLine({ turn, asking }: { turn: Turn; asking: boolean }) {
  const now = useSeconds(true);
  const stopping = useSession((view) => view.stopping);
  return (
    <p className={styles["working"]}>
      <span className={styles["pulse"]} aria-hidden="true" />
      {stopping ? "Stopping" : asking ? "Waiting for an answer" : "Working"}
      <span className={styles["time"]}>{runningDuration(now - turn.startedAt)}</span>
    </p>
  );
}
