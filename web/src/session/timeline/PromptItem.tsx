import type { ReactNode } from "react";
import { Avatar } from "../../design/Avatar";
import { Button } from "../../design/Button";
import { StatusDot } from "../../design/StatusDot";
import { clockTime, fullTime } from "../../design/words";
import type { Author, QueuedPrompt, UserMessage } from "../../protocol.generated";
import { SANDBOX } from "../header/sandbox-words";
import { useCancel } from "../queue/QueueStack";
import { useSession } from "../SessionContext";
import styles from "./Items.module.css";

/** What a person asked for. */
export function PromptItem({ message }: { message: UserMessage }) {
  return <Prompt author={message.author} at={message.timestamp * 1000} content={message.content} />;
}

interface WaitingItemProps {
  prompt: QueuedPrompt;
  onCancelled: (content: string) => void;
}

/** A prompt that was accepted and starts as soon as there is a sandbox. */
export function WaitingItem({ prompt, onCancelled }: WaitingItemProps) {
  const sandbox = useSession((view) => view.session.session?.sandboxStatus ?? "pending");
  const { cancelling, failure, cancel } = useCancel(prompt, onCancelled);
  const failed = sandbox === "failed";
  return (
    <Prompt author={prompt.author} at={prompt.createdAt} content={prompt.content}>
      <div className={styles["waiting"]}>
        <StatusDot tone={failed ? "bad" : "busy"} pulsing={!failed} />
        <span>{failed ? SANDBOX.failed.long : "Starts as soon as the sandbox is ready"}</span>
        <Button look="quiet" busy={cancelling} onClick={cancel}>
          Cancel
        </Button>
      </div>
      {failure !== undefined && <p role="alert">{failure}</p>}
    </Prompt>
  );
}

interface PromptProps {
  author: Author | undefined;
  at: number | undefined;
  content: string;
  children?: ReactNode;
}

function Prompt({ author, at, content, children }: PromptProps) {
  const me = useSession((view) => view.session.me?.participantId);
  const name = author?.name ?? "Somebody";
  return (
    <article className={styles["prompt"]}>
      <header className={styles["byline"]}>
        <Avatar name={name} picture={author?.avatar} size={20} />
        <h2>
          {name}
          {author !== undefined && author.participantId === me && <span className={styles["quiet"]}> (you)</span>}
        </h2>
        {at !== undefined && (
          <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>
            {clockTime(at)}
          </time>
        )}
      </header>
      <p className={styles["words"]}>{content}</p>
      {children}
    </article>
  );
}
