import { useState, type ReactNode } from "react";
import { Avatar } from "../../design/Avatar";
import { CopyButton } from "../../design/CopyButton";
import { StatusDot } from "../../design/StatusDot";
import { baseName, count, dollars, fullTime } from "../../design/words";
import { SANDBOX, sandboxStatus } from "../header/sandbox-words";
import { pullRequestsOf } from "../pull-request";
import { PullRequestBadge } from "../PullRequestBadge";
import { useSession } from "../SessionContext";
import type { ChangedFile } from "../timeline/conversation";
import { LineCounts } from "../timeline/tools/ToolRow";
import { Doors } from "./Doors";
import styles from "./Details.module.css";

/** More changed files than this are shown only when asked for. */
const FILES_SHOWN = 10;

/** What is known of the session beside its timeline. */
export function Details({ files }: { files: readonly ChangedFile[] }) {
  const session = useSession((view) => view.session.session);
  if (session === undefined) return null;
  return (
    <div className={styles["details"]}>
      <PullRequests />
      <Files files={files} />
      <Sandbox />
      <PeopleHere />
      <Section title="Session">
        <dl className={styles["facts"]}>
          {session.repoOwner !== null && session.repoName !== null && (
            <Fact name="Repository">
              {session.repoOwner}/{session.repoName}
            </Fact>
          )}
          {session.baseBranch !== null && <Fact name="Started from">{session.baseBranch}</Fact>}
          {session.branchName !== null && (
            <Fact name="Branch">
              <span className={styles["copyable"]}>
                <code>{session.branchName}</code>
                <CopyButton text={session.branchName} label="Copy the branch name" />
              </span>
            </Fact>
          )}
          <Fact name="Model">
            {session.model}
            {session.reasoningEffort !== undefined && ` · ${session.reasoningEffort}`}
          </Fact>
          {session.totalCost > 0 && <Fact name="Cost">{dollars(session.totalCost)}</Fact>}
          <Fact name="Created">{fullTime(session.createdAt)}</Fact>
        </dl>
      </Section>
    </div>
  );
}

function PullRequests() {
  const artifacts = useSession((view) => view.session.artifacts);
  const pullRequests = pullRequestsOf(artifacts);
  if (pullRequests.length === 0) return null;
  return (
    <Section title={pullRequests.length === 1 ? "Pull request" : `${pullRequests.length} pull requests`}>
      <ul className={styles["rows"]}>
        {pullRequests.map(({ id, url, number, title, state }) => {
          const words = (
            <>
              {number !== undefined && <span className={styles["number"]}>#{number}</span>}
              <span className={styles["name"]}>{title ?? "Pull request"}</span>
            </>
          );
          return (
            <li key={id} className={styles["row"]}>
              {url === undefined ? (
                <span className={styles["name"]}>{words}</span>
              ) : (
                <a className={styles["name"]} href={url} target="_blank" rel="noreferrer">
                  {words}
                </a>
              )}
              <PullRequestBadge state={state} />
            </li>
          );
        })}
      </ul>
    </Section>
  );
}

function Files({ files }: { files: readonly ChangedFile[] }) {
  const [all, setAll] = useState(false);
  const incomplete = useSession((view) => view.session.timeline.hasMore);
  if (files.length === 0) return null;
  const shown = all ? files : files.slice(0, FILES_SHOWN);
  const added = files.reduce((sum, file) => sum + file.added, 0);
  const removed = files.reduce((sum, file) => sum + file.removed, 0);
  return (
    <Section title={`${count(files.length, "file")} changed`} beside={<LineCounts added={added} removed={removed} />}>
      <ul className={styles["rows"]} aria-label="Files changed">
        {shown.map((file) => {
          const name = baseName(file.path);
          const folder = file.path.slice(0, file.path.length - name.length);
          return (
            <li key={file.path} className={styles["row"]} title={file.path}>
              <span className={styles["path"]}>
                <span className={styles["folder"]}>{folder}</span>
                <span>{name}</span>
              </span>
              <LineCounts added={file.added} removed={file.removed} />
            </li>
          );
        })}
      </ul>
      {files.length > shown.length && (
        <button type="button" className={styles["all"]} onClick={() => setAll(true)}>
          Show all {files.length}
        </button>
      )}
      {incomplete && <p className={styles["quiet"]}>Counted from the part of the timeline that is loaded.</p>}
    </Section>
  );
}

function Sandbox() {
  const status = useSession((view) => sandboxStatus(view.session.session));
  const error = useSession((view) => view.session.sandboxError);
  const warning = useSession((view) => view.session.sandboxWarning);
  const words = SANDBOX[status];
  return (
    <Section title="Sandbox">
      <p className={styles["state"]}>
        <StatusDot tone={words.tone} pulsing={words.pulsing} />
        {words.short}
      </p>
      <p className={styles["quiet"]}>{words.long}</p>
      {warning !== undefined && <p className={styles["quiet"]}>{warning}</p>}
      {error !== undefined && <p className={styles["error"]}>{error}</p>}
      <Doors />
    </Section>
  );
}

function PeopleHere() {
  const presence = useSession((view) => view.session.presence);
  const me = useSession((view) => view.session.me?.participantId);
  if (presence.length === 0) return null;
  return (
    <Section title="Here now">
      <ul className={styles["rows"]}>
        {presence.map((person) => (
          <li key={person.participantId} className={styles["person"]}>
            <Avatar name={person.name} picture={person.avatar} size={22} away={person.status !== "active"} />
            <span className={styles["name"]}>
              {person.name}
              {person.participantId === me && <span className={styles["quiet"]}> (you)</span>}
            </span>
            <span className={styles["quiet"]}>{person.status === "active" ? "" : "away"}</span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

function Section({ title, beside, children }: { title: string; beside?: ReactNode; children: ReactNode }) {
  return (
    <section className={styles["section"]}>
      <h2 className={styles["title"]}>
        {title}
        {beside}
      </h2>
      {children}
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
