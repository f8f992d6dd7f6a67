import { useEffect, useState } from "react";
import { ApiError, get, sentenceOf } from "../../app/api";
import { CopyButton } from "../../design/CopyButton";
import type { SandboxAccess } from "../../protocol.generated";
import { useSession } from "../SessionContext";
import { doorsOf, isReached } from "./doors";
import styles from "./Details.module.css";

/** The pages of the sandbox: its editor, its desktop, and ports of the programs that run in it. */
export function Doors() {
  const session = useSession((view) => view.session.session);
  const changes = useSession((view) => view.session.accessChanges);
  const reached = session !== undefined && isReached(session.sandboxStatus);
  // Each reading of passwords is noted in the audit log: it is asked only where there is something to read.
  const isTold = changes > 0 || session?.codeServerUrl != null || session?.vncUrl != null;
  const key = reached && isTold ? `${session.id} ${changes} ${session.codeServerUrl} ${session.vncUrl}` : undefined;
  const { access, failure, again } = useAccess(session?.id, key);
  if (!reached) return null;
  const doors = doorsOf(access, session.tunnelUrls);
  if (doors.length === 0 && failure === undefined) return null;
  return (
    <>
      <ul className={styles["rows"]} aria-label="Pages of the sandbox">
        {doors.map(({ name, url, password }) => (
          <li key={name} className={styles["door"]}>
            <a className={styles["name"]} href={url} target="_blank" rel="noreferrer">
              {name}
            </a>
            {password !== undefined && <CopyButton text={password} label={`Copy the password of the ${name.toLowerCase()}`} />}
          </li>
        ))}
      </ul>
      {failure !== undefined && (
        <p className={styles["quiet"]} role="status">
          {failure}{" "}
          <button type="button" className={styles["all"]} onClick={again}>
            Try again
          </button>
        </p>
      )}
    </>
  );
}

/** How the sandbox is reached, read anew with each `key`; nothing while there is none. */
function useAccess(id: string | undefined, key: string | undefined) {
  const [read, setRead] = useState<{ key: string; access?: SandboxAccess; failure?: string }>();
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (id === undefined || key === undefined) return;
    const gone = new AbortController();
    get<SandboxAccess>(`/api/sessions/${id}/sandbox-access`, { signal: gone.signal }).then(
      (access) => setRead({ key, access }),
      (error: unknown) => {
        if (gone.signal.aborted) return;
        // Nobody may have passwords here, or the sandbox has just gone: then there is nothing to show.
        const isNone = error instanceof ApiError && [403, 404].includes(error.status);
        setRead(isNone ? { key } : { key, failure: sentenceOf(error) });
      },
    );
    return () => gone.abort();
  }, [id, key, tries]);
  const current = read !== undefined && read.key === key ? read : undefined;
  return { access: current?.access, failure: current?.failure, again: () => setTries((count) => count + 1) };
}
