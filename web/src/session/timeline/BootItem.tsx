import { useState } from "react";
import { useSeconds } from "../../design/clock";
import { BoxIcon, CheckIcon, ChevronRightIcon, FailIcon } from "../../design/icons";
import { StatusDot } from "../../design/StatusDot";
import { duration, runningDuration } from "../../design/words";
import type { BootProgress } from "../../protocol.generated";
import { useSession } from "../SessionContext";
import { bootOf, phaseWords } from "./boot";
import styles from "./Items.module.css";

/** The start of a sandbox: phase by phase while it runs or when it failed, in one line once it is done. */
export function BootItem({ phases, ready }: { phases: readonly BootProgress[]; ready: boolean }) {
  const gone = useSession((view) => {
    const status = view.session.session?.sandboxStatus;
    return status === "failed" || status === "stopped" || status === "stale";
  });
  const boot = bootOf(phases, ready, gone);
  const [chosen, setChosen] = useState<boolean>();
  const now = useSeconds(boot.state === "running");
  const open = chosen ?? boot.state !== "done";
  return (
    <section className={styles["boot"]} aria-label="Start of the sandbox">
      <button type="button" className={styles["boot-head"]} aria-expanded={open} onClick={() => setChosen(!open)}>
        <BoxIcon size={15} />
        <span className={styles["boot-words"]}>
          {boot.state === "running" && "Starting the sandbox"}
          {boot.state === "done" && "Sandbox ready"}
          {boot.state === "failed" && "The sandbox did not start"}
          {boot.state === "abandoned" && "The start of this sandbox was given up"}
        </span>
        <span className={styles["time"]}>
          {boot.state === "running" ? runningDuration(now - boot.startedAt) : duration(boot.endedAt - boot.startedAt)}
        </span>
        <ChevronRightIcon size={13} className={styles["chevron"]} />
      </button>
      {open && (
        <ol className={styles["phases"]}>
          {phases.map((phase) => (
            <Phase key={phase.phase} phase={phase} now={now} running={boot.state === "running"} />
          ))}
        </ol>
      )}
    </section>
  );
}

function Phase({ phase, now, running }: { phase: BootProgress; now: number; running: boolean }) {
  const words = phaseWords(phase.phase);
  return (
    <li className={styles["phase"]} data-status={phase.status}>
      {phase.status === "completed" && <CheckIcon size={14} />}
      {phase.status === "failed" && <FailIcon size={14} />}
      {phase.status === "started" && <StatusDot tone="busy" pulsing={running} />}
      <span>
        {words}
        <span className="visually-hidden">
          , {phase.status === "started" ? "under way" : phase.status === "completed" ? "done" : "failed"}
        </span>
        {phase.detail !== undefined && <span className={styles["detail"]}>{phase.detail}</span>}
      </span>
      <span className={styles["time"]}>
        {phase.durationMs !== undefined
          ? duration(phase.durationMs)
          : phase.status === "started" && running && runningDuration(now - phase.startedAt)}
      </span>
    </li>
  );
}
