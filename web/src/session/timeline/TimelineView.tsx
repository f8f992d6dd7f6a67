import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Button } from "../../design/Button";
import { ArrowDownIcon } from "../../design/icons";
import type { QueuedPrompt } from "../../protocol.generated";
import { useConnection, useSession } from "../SessionContext";
import { tellAll, type Conversation, type Item } from "./conversation";
import { ItemView } from "./ItemView";
import styles from "./TimelineView.module.css";
import { WorkingLine } from "./WorkingLine";

/** Closer to the end than this, in px, the timeline follows what comes. */
const FOLLOW_WITHIN = 72;
/** Closer to the beginning than this, in px, older pages are asked for. */
const HISTORY_WITHIN = 600;

const ESTIMATES: Record<Item["kind"], number> = {
  boot: 48, prompt: 96, waiting: 120, text: 110, reasoning: 34, tool: 30, looks: 30, worked: 32, note: 52, question: 150, pushed: 28,
  compacted: 40, "pull-request": 82, end: 32,
};

interface TimelineViewProps {
  conversation: Conversation;
  waiting: QueuedPrompt | undefined;
  onFold: (turn: string) => void;
  onCancelled: (content: string) => void;
}

export function TimelineView({ conversation, waiting, onFold, onCancelled }: TimelineViewProps) {
  const connection = useConnection();
  const timeline = useSession((view) => view.session.timeline);
  const processing = useSession((view) => view.session.session?.isProcessing ?? false);
  const loadingHistory = useSession((view) => view.loadingHistory);
  const items = useMemo(() => tellAll(conversation, timeline, waiting), [conversation, timeline, waiting]);
  const scroller = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);

  // The list draws only what is near; the compiler's memoisation, which this API does not allow, is not used here.
  // eslint-disable-next-line react-hooks/incompatible-library
  const list = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => ESTIMATES[items[index]?.kind ?? "text"],
    getItemKey: (index) => items[index]?.key ?? index,
    overscan: 10,
    anchorTo: "end",
    followOnAppend: true,
    scrollEndThreshold: FOLLOW_WITHIN,
    paddingStart: 24,
    paddingEnd: 24,
  });

  const toEnd = useCallback(() => {
    const element = scroller.current;
    if (element !== null) element.scrollTop = element.scrollHeight;
  }, []);

  // The first page is seen from its end.
  const started = items.length > 0;
  useLayoutEffect(() => {
    if (started) list.scrollToEnd();
  }, [list, started]);

  // The window, the composer or the line below the list may take room away: whoever was at the end stays there.
  const following = useRef(true);
  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      if (following.current) toEnd();
    });
    observer.observe(element);
    if (element.firstElementChild !== null) observer.observe(element.firstElementChild);
    return () => observer.disconnect();
  }, [toEnd]);

  const lookForHistory = useCallback(() => {
    const element = scroller.current;
    if (element !== null && element.scrollTop < HISTORY_WITHIN) connection.loadHistory();
  }, [connection]);
  // A page that does not fill the window cannot be scrolled: the next is asked for at once.
  useEffect(lookForHistory, [lookForHistory, timeline.hasMore, loadingHistory, items.length]);

  const top = useRef(0);
  const onScroll = () => {
    const element = scroller.current;
    if (element === null) return;
    const left = element.scrollHeight - element.clientHeight - element.scrollTop;
    // Growth is no scrolling: only a person's way up ends the following.
    if (left <= FOLLOW_WITHIN) following.current = true;
    else if (element.scrollTop < top.current) following.current = false;
    top.current = element.scrollTop;
    setAtEnd(following.current);
    lookForHistory();
  };

  const working = processing && conversation.latest?.ended === false ? conversation.latest : undefined;
  return (
    <div className={styles["frame"]}>
      {/* A log that is not read out as it grows: the turning points are announced apart. The keyboard must be able to scroll it. */}
      <div
        ref={scroller}
        className={styles["scroller"]}
        onScroll={onScroll}
        role="log"
        aria-live="off"
        aria-label="Timeline"
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        tabIndex={0}
      >
        <div className={styles["content"]}>
          {loadingHistory && (
            <p className={styles["loading"]} role="status">
              Loading earlier events
            </p>
          )}
          <ol className={styles["list"]} aria-busy={loadingHistory} style={{ height: list.getTotalSize() }}>
            {list.getVirtualItems().map((place) => {
              const item = items[place.index];
              if (item === undefined) return null;
              return (
                <li
                  key={place.key}
                  ref={list.measureElement}
                  data-index={place.index}
                  data-kind={item.kind}
                  className={styles["item"]}
                  style={{ transform: `translateY(${place.start}px)` }}
                >
                  <ItemView item={item} onFold={onFold} onCancelled={onCancelled} />
                </li>
              );
            })}
          </ol>
          {working !== undefined && (
            <div className={styles["tail"]}>
              <WorkingLine turn={working} asking={conversation.asking} />
            </div>
          )}
        </div>
      </div>
      {!atEnd && (
        <div className={styles["jump"]}>
          <Button
            icon={<ArrowDownIcon size={14} />}
            onClick={() => {
              following.current = true;
              list.scrollToEnd();
              toEnd();
            }}
          >
            Latest
          </Button>
        </div>
      )}
    </div>
  );
}
