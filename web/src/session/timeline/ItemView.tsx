import { memo } from "react";
import { ChevronRightIcon, CompactIcon, DoneIcon, FailIcon, StopIcon, UploadIcon, WarningIcon } from "../../design/icons";
import { count, duration } from "../../design/words";
import { PullRequestCard } from "../PullRequestBadge";
import { readPullRequest } from "../pull-request";
import { useSession } from "../SessionContext";
import { BootItem } from "./BootItem";
import type { Item } from "./conversation";
import styles from "./Items.module.css";
import { Markdown } from "./Markdown";
import { PromptItem, WaitingItem } from "./PromptItem";
import { QuestionItem } from "./QuestionItem";
import { ReasoningItem } from "./ReasoningItem";
import { LooksRow, ToolRow } from "./tools/ToolRow";

interface ItemViewProps {
  item: Item;
  onFold: (turn: string) => void;
  onCancelled: (content: string) => void;
}

/** One entry of the timeline. */
export const ItemView = memo(function ItemView({ item, onFold, onCancelled }: ItemViewProps) {
  switch (item.kind) {
    case "boot":
      return <BootItem phases={item.phases} ready={item.ready} />;
    case "prompt":
      return <PromptItem message={item.message} />;
    case "waiting":
      return <WaitingItem prompt={item.prompt} onCancelled={onCancelled} />;
    case "text":
      return <Markdown text={item.text} writing={item.writing} />;
    case "reasoning":
      return <ReasoningItem texts={item.texts} writing={item.writing} />;
    case "tool":
      return (
        <Rail first={item.first} last={item.last}>
          <ToolRow call={item.call} nested={item.nested} ended={item.ended} />
        </Rail>
      );
    case "looks":
      return (
        <Rail first={item.first} last={item.last}>
          <LooksRow calls={item.calls} />
        </Rail>
      );
    case "worked":
      return (
        <button
          type="button"
          className={styles["worked"]}
          aria-expanded={item.open}
          onClick={() => onFold(item.turn)}
        >
          <ChevronRightIcon size={13} className={styles["chevron"]} />
          Worked for {duration(item.durationMs)}
          {item.calls > 0 && <span className={styles["quiet"]}>{count(item.calls, "step")}</span>}
        </button>
      );
    case "note":
      return <Note item={item} />;
    case "question":
      return <QuestionItem request={item.request} />;
    case "pushed":
      return (
        <p className={styles["line"]}>
          <UploadIcon />
          <span>
            Pushed{" "}
            {item.branch === undefined ? "the branch" : <code className={styles["branch"]}>{item.branch}</code>}
          </span>
        </p>
      );
    case "compacted":
      return (
        <p className={styles["divider"]}>
          <CompactIcon size={14} />
          Earlier conversation was summarised to make room
        </p>
      );
    case "pull-request":
      return <PullRequestItem item={item} />;
    case "end":
      return <End item={item} />;
  }
});

function Rail({ first, last, children }: { first: boolean; last: boolean; children: React.ReactNode }) {
  return (
    <div className={styles["rail"]} data-first={first || undefined} data-last={last || undefined}>
      {children}
    </div>
  );
}

function Note({ item }: { item: Extract<Item, { kind: "note" }> }) {
  return (
    <div className={styles["note"]} data-tone={item.tone}>
      {item.tone === "bad" ? <FailIcon /> : <WarningIcon />}
      <div>
        <p>{item.text}</p>
        {item.detail !== undefined && <p className={styles["quiet"]}>{item.detail}</p>}
      </div>
    </div>
  );
}

/** As the artifact says now, which may be later than when the timeline told of it. */
function PullRequestItem({ item }: { item: Extract<Item, { kind: "pull-request" }> }) {
  const artifact = useSession((view) =>
    view.session.artifacts.find(({ id, url }) => (item.artifactId === undefined ? url === item.url : id === item.artifactId)),
  );
  return <PullRequestCard pullRequest={readPullRequest(item.key, artifact?.url ?? item.url, artifact?.metadata ?? item.metadata)} />;
}

function End({ item }: { item: Extract<Item, { kind: "end" }> }) {
  const after = item.durationMs === undefined ? "" : ` after ${duration(item.durationMs)}`;
  switch (item.outcome) {
    case "done":
      return (
        <p className={styles["line"]} data-tone="ok">
          <DoneIcon />
          Done{item.durationMs === undefined ? "" : ` in ${duration(item.durationMs)}`}
        </p>
      );
    case "stopped":
    case "cancelled":
      return (
        <p className={styles["line"]}>
          <StopIcon />
          {item.outcome === "stopped" ? "Stopped" : "Cancelled"}
          {after}
        </p>
      );
    case "failed":
    case "timed_out":
      return (
        <div className={`${styles["note"]} ${styles["failed"]}`} data-tone="bad">
          <FailIcon />
          <div>
            <p className={styles["strong"]}>
              {item.outcome === "failed" ? "Failed" : "Ran out of time"}
              {after}
            </p>
            {item.error !== undefined && <p className={styles["reason"]}>{item.error}</p>}
          </div>
        </div>
      );
  }
}
