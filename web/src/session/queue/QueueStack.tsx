import { useId, useState } from "react";
import { PROMPT_MAX } from "../../composer/PromptField";
import { Button, IconButton } from "../../design/Button";
import { ArrowUpIcon, CloseIcon, PencilIcon, QueueIcon, SkipAheadIcon } from "../../design/icons";
import { count } from "../../design/words";
import type { QueuedPrompt } from "../../protocol.generated";
import { useConnection, useSession } from "../SessionContext";
import { useRequest } from "../use-request";
import styles from "./QueueStack.module.css";

interface QueueStackProps {
  prompts: readonly QueuedPrompt[];
  /** A prompt was taken back: its words may be wanted again. */
  onCancelled: (content: string) => void;
}

/** Prompts that wait for the one that runs, in the order in which they will. */
export function QueueStack({ prompts, onCancelled }: QueueStackProps) {
  const me = useSession((view) => view.session.me?.participantId);
  if (prompts.length === 0) return null;
  return (
    <section className={styles["stack"]} aria-label="Waiting prompts">
      <h2 className={styles["heading"]}>
        <QueueIcon />
        {count(prompts.length, "prompt")} waiting
      </h2>
      <ol className={styles["list"]}>
        {prompts.map((prompt, index) => (
          <Waiting
            key={prompt.messageId}
            prompt={prompt}
            mine={prompt.author?.participantId === me}
            before={prompts[index - 1]?.messageId}
            onCancelled={onCancelled}
          />
        ))}
      </ol>
    </section>
  );
}

interface WaitingProps {
  prompt: QueuedPrompt;
  mine: boolean;
  /** The one that goes right before it; the first one has none. */
  before: string | undefined;
  onCancelled: (content: string) => void;
}

function Waiting({ prompt, mine, before, onCancelled }: WaitingProps) {
  const connection = useConnection();
  const running = useSession((view) => view.session.session?.isProcessing ?? false);
  const { cancelling, failure, cancel } = useCancel(prompt, onCancelled);
  const change = useRequest();
  const [editing, setEditing] = useState(false);
  const author = prompt.author === undefined ? undefined : mine ? "You" : prompt.author.name;
  const busy = cancelling || change.busy;
  const complaint = failure ?? change.failure;
  if (editing) {
    return (
      <li className={styles["waiting"]}>
        <Editing
          prompt={prompt}
          busy={change.busy}
          failure={change.failure}
          onSave={(content) => change.ask(connection.edit(prompt.messageId, content), () => setEditing(false))}
          onLeave={() => setEditing(false)}
        />
      </li>
    );
  }
  return (
    <li className={styles["waiting"]}>
      <p className={styles["words"]}>
        {author !== undefined && <span className={styles["author"]}>{author}</span>}
        {prompt.content}
        {complaint !== undefined && (
          <span className={styles["failure"]} role="alert">
            {complaint}
          </span>
        )}
      </p>
      <div className={styles["actions"]}>
        {running && (
          <IconButton
            label="Stop the run and send this prompt now"
            disabled={busy}
            onClick={() => change.ask(connection.sendNow(prompt.messageId))}
          >
            <SkipAheadIcon size={15} />
          </IconButton>
        )}
        {before !== undefined && (
          <IconButton
            label="Move this prompt up"
            disabled={busy}
            onClick={() => change.ask(connection.moveBefore(prompt.messageId, before))}
          >
            <ArrowUpIcon size={15} />
          </IconButton>
        )}
        {/* Of a long prompt only the beginning is here: it cannot be edited in this place. */}
        {mine && prompt.contentTruncated !== true && (
          <IconButton label="Edit this prompt" disabled={busy} onClick={() => setEditing(true)}>
            <PencilIcon size={15} />
          </IconButton>
        )}
        <IconButton label="Cancel this prompt" disabled={busy} onClick={cancel}>
          <CloseIcon size={15} />
        </IconButton>
      </div>
    </li>
  );
}

interface EditingProps {
  prompt: QueuedPrompt;
  busy: boolean;
  failure: string | undefined;
  onSave: (content: string) => void;
  onLeave: () => void;
}

function Editing({ prompt, busy, failure, onSave, onLeave }: EditingProps) {
  const [words, setWords] = useState(prompt.content);
  const field = useId();
  const empty = words.trim() === "";
  return (
    <form
      className={styles["editing"]}
      onSubmit={(event) => {
        event.preventDefault();
        if (!empty) onSave(words);
      }}
    >
      <label htmlFor={field} className="visually-hidden">
        The prompt
      </label>
      <textarea
        id={field}
        value={words}
        rows={Math.min(6, words.split("\n").length + 1)}
        maxLength={PROMPT_MAX}
        // The person asked for this field with the press before.
        // eslint-disable-next-line jsx-a11y/no-autofocus
        autoFocus
        onChange={(event) => setWords(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onLeave();
        }}
      />
      {failure !== undefined && (
        <p className={styles["failure"]} role="alert">
          {failure}
        </p>
      )}
      <div className={styles["editing-actions"]}>
        <Button look="quiet" onClick={onLeave}>
          Leave as it is
        </Button>
        <Button type="submit" look="primary" busy={busy} disabled={busy || empty}>
          Save
        </Button>
      </div>
    </form>
  );
}

/** Takes a waiting prompt back. */
export function useCancel(prompt: QueuedPrompt, onCancelled: (content: string) => void) {
  const connection = useConnection();
  const { busy, failure, ask } = useRequest();
  const cancel = () => ask(connection.cancel(prompt.messageId), () => onCancelled(prompt.content));
  return { cancelling: busy, failure, cancel };
}
