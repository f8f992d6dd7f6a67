import { memo, useState, type ComponentType } from "react";
import { useSeconds } from "../../../design/clock";
import {
  BoxIcon,
  ChevronRightIcon,
  FileIcon,
  FolderIcon,
  GlobeIcon,
  ListIcon,
  PencilIcon,
  PullRequestIcon,
  SearchIcon,
  SparkIcon,
  TerminalIcon,
} from "../../../design/icons";
import { count, duration, runningDuration } from "../../../design/words";
import type { ToolCall } from "../../../protocol.generated";
import { ToolDetails } from "./ToolDetails";
import { changeOf } from "./tool-change";
import { kindOf, stateOf, toolWords, type ToolKind, type ToolState } from "./tool-words";
import styles from "./Tools.module.css";

const ICONS: Record<ToolKind, ComponentType<{ size?: number; className?: string | undefined }>> = {
  read: FileIcon,
  edit: PencilIcon,
  command: TerminalIcon,
  search: SearchIcon,
  list: FolderIcon,
  web: GlobeIcon,
  todo: ListIcon,
  task: BoxIcon,
  "pull-request": PullRequestIcon,
  other: SparkIcon,
};

const STATE_WORDS: Record<ToolState, string> = {
  running: "running",
  done: "done",
  failed: "failed",
  interrupted: "interrupted",
};

interface ToolRowProps {
  call: ToolCall;
  nested: readonly ToolCall[];
  /** The turn that it belongs to is over. */
  ended: boolean;
}

/** One call of a tool in a line, with what it was given and what came of it behind it. */
export const ToolRow = memo(function ToolRow({ call, nested, ended }: ToolRowProps) {
  const [open, setOpen] = useState(false);
  const state = stateOf(call, ended);
  const words = toolWords(call, state);
  const Icon = ICONS[words.kind];
  const change = words.kind === "edit" ? changeOf(call) : undefined;
  return (
    <div className={styles["row"]} data-state={state}>
      <button
        type="button"
        className={styles["line"]}
        aria-expanded={open}
        title={words.full}
        onClick={() => setOpen((now) => !now)}
      >
        <Icon size={15} className={styles["icon"]} />
        <span className={styles["verb"]}>{words.verb}</span>
        <span className={styles["subject"]} data-prose={words.prose || undefined}>
          {words.subject}
        </span>
        {change !== undefined && <LineCounts added={change.added} removed={change.removed} />}
        <span className={styles["end"]}>
          {(call.exitCode ?? 0) !== 0 && <span className={styles["exit"]}>exit {call.exitCode}</span>}
          {state === "failed" && (call.exitCode ?? 0) === 0 && <span className={styles["exit"]}>failed</span>}
          {state === "interrupted" && <span>interrupted</span>}
          <Duration call={call} state={state} />
          <span className="visually-hidden">, {STATE_WORDS[state]}</span>
          <ChevronRightIcon size={13} className={styles["chevron"]} />
        </span>
      </button>
      {open && (
        <div className={styles["details"]}>
          <ToolDetails call={call} />
          {nested.length > 0 && (
            <div className={styles["nested"]}>
              {nested.map((each) => (
                <ToolRow key={each.callId} call={each} nested={[]} ended={ended} />
              ))}
            </div>
          )}
        </div>
      )}
    </div>
  );
});

/** Several looks at the code in one line. */
export const LooksRow = memo(function LooksRow({ calls }: { calls: readonly ToolCall[] }) {
  const [open, setOpen] = useState(false);
  return (
    <div className={styles["row"]}>
      <button type="button" className={styles["line"]} aria-expanded={open} onClick={() => setOpen((now) => !now)}>
        <SearchIcon size={15} className={styles["icon"]} />
        <span className={styles["verb"]}>Looked around</span>
        <span className={styles["subject"]} data-prose>
          {summary(calls)}
        </span>
        <span className={styles["end"]}>
          <ChevronRightIcon size={13} className={styles["chevron"]} />
        </span>
      </button>
      {open && (
        <div className={styles["nested"]}>
          {calls.map((call) => (
            <ToolRow key={call.callId} call={call} nested={[]} ended />
          ))}
        </div>
      )}
    </div>
  );
});

function summary(calls: readonly ToolCall[]): string {
  const number = (kind: ToolKind) => calls.filter((call) => kindOf(call.tool) === kind).length;
  const [reads, searches, lists] = [number("read"), number("search"), number("list")];
  return [
    ...(reads > 0 ? [count(reads, "file")] : []),
    ...(searches > 0 ? [count(searches, "search", "searches")] : []),
    ...(lists > 0 ? [count(lists, "listing")] : []),
  ].join(", ");
}

export function LineCounts({ added, removed }: { added: number; removed: number }) {
  return (
    <span className={styles["counts"]}>
      {added > 0 && (
        <span className={styles["added"]}>
          <span className="visually-hidden">lines added: </span>+{added}
        </span>
      )}
      {removed > 0 && (
        <span className={styles["removed"]}>
          <span className="visually-hidden">lines removed: </span>−{removed}
        </span>
      )}
    </span>
  );
}

function Duration({ call, state }: { call: ToolCall; state: ToolState }) {
  const now = useSeconds(state === "running");
  const { startedAt, endedAt } = call;
  if (state === "running") {
    return (
      <>
        {startedAt !== undefined && now - startedAt >= 1000 && <span>{runningDuration(now - startedAt)}</span>}
        <span className={styles["spinner"]} aria-hidden="true" />
      </>
    );
  }
  if (startedAt === undefined || endedAt === undefined || endedAt - startedAt < 100) return null;
  return <span>{duration(endedAt - startedAt)}</span>;
}
