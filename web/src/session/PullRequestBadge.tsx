import { PullRequestIcon } from "../design/icons";
import type { PullRequest, PullRequestState } from "./pull-request";
import styles from "./PullRequestBadge.module.css";

const WORDS: Record<PullRequestState, string> = { open: "Open", draft: "Draft", merged: "Merged", closed: "Closed" };

export function PullRequestBadge({ state }: { state: PullRequestState }) {
  return (
    <span className={styles["badge"]} data-state={state}>
      {WORDS[state]}
    </span>
  );
}

/** One pull request with its link, as a card of the timeline. */
export function PullRequestCard({ pullRequest }: { pullRequest: PullRequest }) {
  const { url, number, title, state, head, base, repository } = pullRequest;
  const name = `Pull request${number === undefined ? "" : ` #${number}`}`;
  const content = (
    <>
      <span className={styles["icon"]} data-state={state}>
        <PullRequestIcon size={18} />
      </span>
      <span className={styles["words"]}>
        <span className={styles["title"]}>{title ?? name}</span>
        <span className={styles["meta"]}>
          <span>
            {repository ?? name}
            {repository !== undefined && number !== undefined && ` #${number}`}
          </span>
          {head !== undefined && base !== undefined && (
            <span className={styles["branches"]}>
              <code>{head}</code> into <code>{base}</code>
            </span>
          )}
        </span>
      </span>
      <PullRequestBadge state={state} />
    </>
  );
  if (url === undefined) return <div className={styles["card"]}>{content}</div>;
  return (
    <a className={styles["card"]} href={url} target="_blank" rel="noreferrer" aria-label={`${name}, ${WORDS[state]}: ${title ?? ""}`}>
      {content}
    </a>
  );
}
