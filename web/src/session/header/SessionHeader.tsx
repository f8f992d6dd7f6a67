import { IconButton } from "../../design/Button";
import { PanelIcon, PullRequestIcon, TerminalIcon } from "../../design/icons";
import { StatusDot } from "../../design/StatusDot";
import { dollars } from "../../design/words";
import { STATUS } from "../../session-list/status";
import { Topbar } from "../../shell/Topbar";
import { pullRequestsOf } from "../pull-request";
import { useSession } from "../SessionContext";
import { People } from "./People";
import { SANDBOX, sandboxStatus } from "./sandbox-words";
import { prepareTerminal } from "../terminal/lazy-panel";
import styles from "./SessionHeader.module.css";

interface SessionHeaderProps {
  title: string;
  detailsShown: boolean;
  onDetails: () => void;
  terminalShown: boolean;
  onTerminal: () => void;
}

export function SessionHeader({ title, detailsShown, onDetails, terminalShown, onTerminal }: SessionHeaderProps) {
  const session = useSession((view) => view.session.session);
  const artifacts = useSession((view) => view.session.artifacts);
  if (session === undefined) return <Topbar />;
  const status = session.isProcessing ? STATUS.active : STATUS[session.status];
  const sandbox = SANDBOX[sandboxStatus(session)];
  const newest = pullRequestsOf(artifacts).at(-1);
  return (
    <Topbar>
      <div className={styles["heading"]}>
        <h1 className={styles["title"]} title={title}>
          {title}
        </h1>
        <p className={styles["meta"]}>
          <span className={styles["state"]} role="status" aria-label="Session status">
            <StatusDot tone={status.tone === "quiet" ? "ok" : status.tone} pulsing={status.pulsing} />
            {status.words}
          </span>
          {session.repoOwner !== null && session.repoName !== null && (
            <span className={styles["repository"]}>
              {session.repoOwner}/{session.repoName}
            </span>
          )}
          <span className={styles["sandbox"]} title={sandbox.long}>
            Sandbox: {sandbox.short.toLocaleLowerCase()}
          </span>
          {session.totalCost > 0 && (
            <span className={styles["cost"]} title="Cost of the model so far">
              {dollars(session.totalCost)}
            </span>
          )}
        </p>
      </div>
      <People />
      {newest?.url !== undefined && (
        <a className={styles["pull-request"]} href={newest.url} target="_blank" rel="noreferrer">
          <PullRequestIcon />
          <span>
            <span className={styles["long"]}>Pull request </span>
            {newest.number === undefined ? <span className={styles["long"]}>open</span> : `#${newest.number}`}
          </span>
        </a>
      )}
      <IconButton
        label={terminalShown ? "Hide terminal" : "Show terminal"}
        aria-expanded={terminalShown}
        onClick={onTerminal}
        onPointerEnter={prepareTerminal}
        onFocus={prepareTerminal}
      >
        <TerminalIcon size={18} />
      </IconButton>
      <IconButton label={detailsShown ? "Hide details" : "Show details"} aria-expanded={detailsShown} onClick={onDetails}>
        <PanelIcon size={18} />
      </IconButton>
    </Topbar>
  );
}
