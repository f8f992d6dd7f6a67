import { useRef, useState } from "react";
import { PromptField } from "../../composer/PromptField";
import card from "../../composer/card.module.css";
import { Button, IconButton } from "../../design/Button";
import { ArrowUpIcon, StopIcon } from "../../design/icons";
import { Notice } from "../../design/Notice";
import { useConnection, useSession } from "../SessionContext";
import type { Draft } from "./draft";
import { EMPTY_DRAFT, tryDraft } from "./draft";
import styles from "./SessionComposer.module.css";
import { TypingPeople } from "./TypingPeople";

interface SessionComposerProps {
  draft: Draft;
  onDraft: (draft: Draft) => void;
}

/** Follow-ups to the agent. While it works they queue; what could not be sent stays here and is sent again by itself. */
export function SessionComposer({ draft, onDraft }: SessionComposerProps) {
  const connection = useConnection();
  const live = useSession((view) => view.link.state === "live");
  const running = useSession((view) => view.session.session?.isProcessing ?? false);
  const stopping = useSession((view) => view.stopping);
  const status = useSession((view) => view.session.session?.status);
  const queued = useSession((view) => view.session.queue.length > 0);
  const begun = useSession((view) => view.session.timeline.rows.some((row) => row.event.type === "user_message"));
  const [sending, setSending] = useState<string>();
  const [failure, setFailure] = useState<string>();
  const field = useRef<{ focus: (options?: FocusOptions) => void }>(null);

  if (status === "archived" || status === "cancelled") {
    return (
      <p className={styles["closed"]}>This session was {status}. It takes no more prompts, but its timeline stays here.</p>
    );
  }

  const send = () => {
    if (draft.text.trim() === "" || sending !== undefined) return;
    const tried = tryDraft(draft, () => crypto.randomUUID());
    const focused = document.activeElement instanceof HTMLTextAreaElement;
    onDraft(tried);
    setSending(tried.requestId);
    setFailure(undefined);
    void connection.submit({ clientRequestId: tried.requestId, content: tried.tried }).then((outcome) => {
      setSending(undefined);
      if (outcome.ok) onDraft(EMPTY_DRAFT);
      else if (outcome.code !== "WITHDRAWN") setFailure(outcome.reason);
      // An id that was refused for other words is of no use any more.
      if (!outcome.ok && outcome.code === "PROMPT_REQUEST_CONFLICT") onDraft({ ...EMPTY_DRAFT, text: tried.text });
      if (focused) field.current?.focus({ preventScroll: true });
    });
  };
  const change = (text: string) => {
    onDraft({ ...draft, text });
    if (text !== "") connection.typing();
  };

  return (
    <div className={styles["composer"]}>
      {failure !== undefined && (
        <div className={styles["failure"]}>
          <Notice tone="bad">{failure}</Notice>
        </div>
      )}
      <form
        className={card["card"]}
        aria-label="Follow-up"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <PromptField
          field={field}
          value={draft.text}
          onChange={change}
          onSend={send}
          label="Prompt"
          placeholder={running || queued ? "Add a prompt to the queue" : begun ? "Ask for a follow-up" : "Describe a change, a bug or a question"}
          readOnly={sending !== undefined}
          rows={1}
        />
        <div className={card["foot"]}>
          <div className={styles["state"]} role="status">
            {sending === undefined ? <TypingPeople /> : live ? "Sending…" : "Sent as soon as the connection is back."}
          </div>
          {sending !== undefined && !live && (
            <Button look="quiet" onClick={() => connection.withdraw(sending)}>
              Edit
            </Button>
          )}
          {running && (
            <Button look="danger" icon={<StopIcon size={14} />} busy={stopping} disabled={!live || stopping} onClick={() => connection.stop()}>
              {stopping ? "Stopping" : "Stop"}
            </Button>
          )}
          <IconButton
            type="submit"
            look="primary"
            label={running ? "Queue prompt" : "Send prompt"}
            disabled={draft.text.trim() === "" || sending !== undefined}
          >
            <ArrowUpIcon size={18} />
          </IconButton>
        </div>
      </form>
    </div>
  );
}
