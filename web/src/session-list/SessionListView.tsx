import { Link, useLocation } from "wouter";
import { Button } from "../design/Button";
import { useMinutes } from "../design/clock";
import { PullRequestIcon } from "../design/icons";
import { Notice } from "../design/Notice";
import { Skeleton } from "../design/Skeleton";
import { StatusDot } from "../design/StatusDot";
import { ago, count, fullTime } from "../design/words";
import type { SessionListItem } from "../protocol.generated";
import { sessionList, useSessionList } from "./list";
import { STATUS } from "./status";
import styles from "./SessionListView.module.css";

/** Everybody's sessions, newest change first. */
export function SessionListView({ onNavigate }: { onNavigate?: (() => void) | undefined }) {
  const { sessions, state, reason, hasMore, loadingMore } = useSessionList();
  const [path] = useLocation();
  // A session that was only warmed while somebody typed is none yet.
  const shown = sessions.filter((session) => session.status !== "created" || session.messageCount > 0);
  return (
    <nav className={styles["nav"]} aria-label="Sessions">
      <h2 className={styles["heading"]}>Sessions</h2>
      {state === "loading" && shown.length === 0 && (
        <div className={styles["loading"]}>
          <Skeleton widths={[82, 50, 74, 40, 88, 55]} label="Loading the sessions" />
        </div>
      )}
      {state === "failed" && (
        <Notice tone="bad" action={<Button onClick={() => void sessionList.refresh()}>Retry</Button>}>
          {reason}
        </Notice>
      )}
      {state === "ready" && shown.length === 0 && (
        <p className={styles["empty"]}>What you and your team start shows up here.</p>
      )}
      <ul>
        {shown.map((session) => (
          <li key={session.id}>
            <SessionLink session={session} current={path === `/session/${session.id}`} onNavigate={onNavigate} />
          </li>
        ))}
      </ul>
      {hasMore && (
        <Button look="quiet" wide busy={loadingMore} onClick={() => void sessionList.more()}>
          Load more
        </Button>
      )}
    </nav>
  );
}

interface SessionLinkProps {
  session: SessionListItem;
  current: boolean;
  onNavigate: (() => void) | undefined;
}

function SessionLink({ session, current, onNavigate }: SessionLinkProps) {
  const now = useMinutes();
  const status = STATUS[session.status];
  const repository = session.repoName ?? "No repository";
  return (
    <Link
      href={`/session/${session.id}`}
      className={styles["link"]}
      aria-current={current ? "page" : undefined}
      onClick={() => onNavigate?.()}
    >
      <span className={styles["dot"]} title={status.words}>
        <StatusDot tone={status.tone} pulsing={status.pulsing} />
      </span>
      <span className={styles["title"]} data-untitled={session.title === null || undefined}>
        {session.title ?? "Untitled session"}
        <span className="visually-hidden">, {status.words}</span>
      </span>
      <span className={styles["meta"]}>
        <span className={styles["repository"]}>{repository}</span>
        {session.prCount > 0 && (
          <span className={styles["prs"]} title={count(session.prCount, "pull request")}>
            <PullRequestIcon size={13} />
            <span className="visually-hidden">{count(session.prCount, "PR")}</span>
          </span>
        )}
        <time dateTime={new Date(session.updatedAt).toISOString()} title={fullTime(session.updatedAt)}>
          {ago(session.updatedAt, now)}
        </time>
      </span>
    </Link>
  );
}
