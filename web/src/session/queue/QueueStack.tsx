import { useState } from "react";
import { IconButton } from "../../design/Button";
import { CloseIcon, QueueIcon } from "../../design/icons";
import { count } from "../../design/words";
import type { QueuedPrompt } from "../../protocol.generated";
import { useConnection, useSession } from "../SessionContext";
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
        {prompts.map((prompt) => (
          <Waiting key={prompt.messageId} prompt={prompt} mine={prompt.author?.participantId === me} onCancelled={onCancelled} />
        ))}
      </ol>
    </section>
  );
}

interface WaitingProps {
  prompt: QueuedPrompt;
  mine: boolean;
  onCancelled: (content: string) => void;
}

function Waiting({ prompt, mine, onCancelled }: WaitingProps) {
  const { cancelling, failure, cancel } = useCancel(prompt, onCancelled);
  const author = prompt.author === undefined ? undefined : mine ? "You" : prompt.author.name;
  return (
    <li className={styles["waiting"]}>
      <p className={styles["words"]}>
        {author !== undefined && <span className={styles["author"]}>{author}</span>}
        {prompt.content}
        {failure !== undefined && (
          <span className={styles["failure"]} role="alert">
            {failure}
          </span>
        )}
      </p>
      <IconButton label="Cancel this prompt" disabled={cancelling} onClick={cancel}>
        <CloseIcon size={15} />
      </IconButton>
    </li>
  );
}

/** Takes a waiting prompt back. */
export function useCancel(prompt: QueuedPrompt, onCancelled: (content: string) => void) {
  const connection = useConnection();
  const [cancelling, setCancelling] = useState(false);
  const [failure, setFailure] = useState<string>();
  const cancel = () => {
    setCancelling(true);
    setFailure(undefined);
    void connection.cancel(prompt.messageId).then((outcome) => {
      setCancelling(false);
      if (outcome.ok) onCancelled(prompt.content);
      else if (outcome.code !== "WITHDRAWN") setFailure(outcome.reason);
    });
  };
  return { cancelling, failure, cancel };
}
