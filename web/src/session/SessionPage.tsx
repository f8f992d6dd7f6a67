import { Suspense, useCallback, useMemo, useRef, useState } from "react";
import { Link } from "wouter";
import { ErrorBoundary } from "../app/ErrorBoundary";
import { recall, remember } from "../app/storage";
import { useDocumentTitle } from "../app/title";
import { Drawer } from "../design/Drawer";
import { useWide } from "../design/media";
import { Notice } from "../design/Notice";
import { Skeleton } from "../design/Skeleton";
import { Topbar } from "../shell/Topbar";
import { Announcer } from "./Announcer";
import { EMPTY_DRAFT, recallDraft, rememberDraft, type Draft } from "./composer/draft";
import { SessionComposer } from "./composer/SessionComposer";
import { Details } from "./details/Details";
import { ConnectionBanner } from "./header/ConnectionBanner";
import { SessionHeader } from "./header/SessionHeader";
import type { QueuedPrompt } from "../protocol.generated";
import { QueueStack } from "./queue/QueueStack";
import { splitQueue } from "./queue/split-queue";
import { SessionProvider, useSession } from "./SessionContext";
import styles from "./SessionPage.module.css";
import { tellRows } from "./timeline/conversation";
import type { Row } from "./timeline/timeline";
import { TerminalPanel } from "./terminal/lazy-panel";
import { TimelineView } from "./timeline/TimelineView";

export default function SessionPage({ id }: { id: string }) {
  return (
    <SessionProvider id={id}>
      <Session id={id} />
    </SessionProvider>
  );
}

function Session({ id }: { id: string }) {
  const known = useSession((view) => view.session.session !== undefined);
  const link = useSession((view) => view.link.state);
  if (link === "missing") return <Missing />;
  if (!known) return <Opening />;
  return <OpenSession id={id} />;
}

function OpenSession({ id }: { id: string }) {
  const wide = useWide();
  const [beside, setBeside] = useState(() => recall("details") !== "closed");
  const [drawer, setDrawer] = useState(false);
  const [terminal, setTerminal] = useState(() => recall("terminal") === "open");
  const [unfolded, setUnfolded] = useState<ReadonlySet<string>>(new Set());
  const [draft, setDraft] = useDraft(id);
  const rows = useSession((view) => view.session.timeline.rows);
  const queue = useSession((view) => view.session.queue);
  const processing = useSession((view) => view.session.session?.isProcessing ?? false);
  const given = useSession((view) => view.session.session?.title);
  const title = given ?? firstWords(rows, queue) ?? "New session";
  useDocumentTitle(title);

  const conversation = useMemo(() => tellRows(rows, unfolded), [rows, unfolded]);
  const { first, waiting } = useMemo(() => splitQueue(queue, rows, processing), [queue, rows, processing]);

  const onFold = useCallback((turn: string) => {
    setUnfolded((now) => {
      const next = new Set(now);
      if (!next.delete(turn)) next.add(turn);
      return next;
    });
  }, []);
  // A prompt that was taken back goes to the composer, unless something else is being written there.
  const onCancelled = useCallback(
    (content: string) => setDraft((now) => (now.text.trim() === "" ? { ...EMPTY_DRAFT, text: content } : now)),
    [setDraft],
  );
  const onDetails = () => {
    if (!wide) {
      setDrawer((open) => !open);
      return;
    }
    remember("details", beside ? "closed" : "open");
    setBeside(!beside);
  };

  const onTerminal = () => {
    remember("terminal", terminal ? "closed" : "open");
    setTerminal(!terminal);
  };

  const details = <Details files={conversation.files} />;
  const empty = conversation.items.length === 0 && first === undefined;
  return (
    <div className={styles["page"]} data-beside={(wide && beside) || undefined}>
      <div className={styles["header"]}>
        <SessionHeader
          title={title}
          detailsShown={wide ? beside : drawer}
          onDetails={onDetails}
          terminalShown={terminal}
          onTerminal={onTerminal}
        />
      </div>
      <div className={styles["conversation"]} data-terminal={terminal || undefined}>
        <ErrorBoundary what="The timeline">
          {empty ? (
            <Empty />
          ) : (
            <TimelineView conversation={conversation} waiting={first} onFold={onFold} onCancelled={onCancelled} />
          )}
        </ErrorBoundary>
        {terminal && (
          <div className={styles["terminal"]}>
            <ErrorBoundary what="The terminal">
              <Suspense fallback={<Skeleton widths={[30, 20]} label="Opening the terminal" />}>
                <TerminalPanel id={id} onClose={onTerminal} />
              </Suspense>
            </ErrorBoundary>
          </div>
        )}
        <div className={styles["foot"]}>
          <ConnectionBanner />
          <Complaints />
          <QueueStack prompts={waiting} onCancelled={onCancelled} />
          <SessionComposer draft={draft} onDraft={setDraft} />
        </div>
      </div>
      {wide && beside && (
        <aside className={styles["details"]} aria-label="Details">
          {details}
        </aside>
      )}
      {!wide && (
        <Drawer open={drawer} onClose={() => setDrawer(false)} label="Details" side="right">
          {details}
        </Drawer>
      )}
      <Announcer asking={conversation.asking} />
    </div>
  );
}

/** Until a session has a title, it is called by the first line of its first prompt. */
function firstWords(rows: readonly Row[], queue: readonly QueuedPrompt[]): string | undefined {
  const told = rows.find((row) => row.event.type === "user_message")?.event;
  const words = told?.type === "user_message" ? told.content : queue[0]?.content;
  return words?.trim().split("\n")[0];
}

/** The composer's words, kept over reloads and while other sessions are looked at. */
function useDraft(id: string) {
  const [draft, setDraft] = useState(() => recallDraft(id));
  const kept = useRef(draft);
  const change = useCallback(
    (next: Draft | ((now: Draft) => Draft)) => {
      kept.current = typeof next === "function" ? next(kept.current) : next;
      rememberDraft(id, kept.current);
      setDraft(kept.current);
    },
    [id],
  );
  return [draft, change] as const;
}

/** What the session refused or warned of, when it belongs to no one place. */
function Complaints() {
  const complaint = useSession((view) => view.complaint);
  const error = useSession((view) => view.session.sandboxError);
  const [dismissed, setDismissed] = useState(0);
  return (
    <>
      {error !== undefined && <Notice tone="bad">The sandbox could not be started: {error}</Notice>}
      {complaint !== undefined && complaint.id > dismissed && (
        <Notice
          tone="busy"
          action={
            <button type="button" className={styles["dismiss"]} onClick={() => setDismissed(complaint.id)}>
              Dismiss
            </button>
          }
        >
          {complaint.message}
        </Notice>
      )}
    </>
  );
}

function Empty() {
  return (
    <div className={styles["empty"]}>
      <p className={styles["empty-title"]}>Nothing has been asked yet</p>
      <p>Describe a change below. Everybody who opens this session sees the agent work.</p>
    </div>
  );
}

function Opening() {
  const refused = useSession((view) => view.link.state === "refused");
  return (
    <div className={styles["page"]}>
      <Topbar />
      <div className={styles["conversation"]}>
        <div className={styles["opening"]}>
          {!refused && (
            <>
              <Skeleton widths={[38, 92, 80]} label="Opening the session" />
              <Skeleton widths={[55, 60, 47]} label="Opening the session" />
            </>
          )}
        </div>
        <div className={styles["foot"]}>
          <ConnectionBanner />
        </div>
      </div>
    </div>
  );
}

function Missing() {
  return (
    <div className={styles["page"]}>
      <Topbar />
      <div className={styles["conversation"]}>
        <div className={styles["empty"]}>
          <h1 className={styles["empty-title"]}>This session does not exist</h1>
          <p>
            It may have been deleted, or the address is incomplete. <Link href="/">Start a new session</Link>, or choose one
            from the list.
          </p>
        </div>
      </div>
    </div>
  );
}
