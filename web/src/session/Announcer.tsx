import { useMemo } from "react";
import { pullRequestsOf } from "./pull-request";
import { useSession } from "./SessionContext";

/** Tells a screen reader the turning points of a run, not each of its words. */
export function Announcer({ asking }: { asking: boolean }) {
  const processing = useSession((view) => view.session.session?.isProcessing ?? false);
  const rows = useSession((view) => view.session.timeline.rows);
  const artifacts = useSession((view) => view.session.artifacts);
  const end = useMemo(() => rows.findLast((row) => row.event.type === "execution_complete")?.event, [rows]);
  const newest = pullRequestsOf(artifacts).at(-1);
  const words = processing
    ? asking
      ? "The agent asks a question and waits for an answer."
      : "The agent is working."
    : end?.type === "execution_complete"
      ? `The agent ${end.outcome === "stopped" ? "was stopped" : end.success ? "is done" : `failed: ${end.error ?? "no reason was given"}`}.`
      : "";
  const pullRequest = newest?.number === undefined ? "" : ` Pull request ${newest.number} is ${newest.state}.`;
  return (
    <p className="visually-hidden" role="status" aria-label="Progress">
      {words}
      {pullRequest}
    </p>
  );
}
