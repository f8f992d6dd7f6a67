import { useEffect, useState, useSyncExternalStore } from "react";
import { Button } from "../../design/Button";
import { Notice } from "../../design/Notice";
import { useSeconds } from "../../design/clock";
import { useConnection, useSession } from "../SessionContext";

/** A loss shorter than this is not worth a word, in ms. */
const PATIENCE_MS = 1_500;

/** Says when what is shown may be old, and what happens about it. */
export function ConnectionBanner() {
  const connection = useConnection();
  const link = useSession((view) => view.link);
  const opened = useSession((view) => view.session.session !== undefined);
  const since = link.state === "waiting" || link.state === "reconnecting" ? link.since : undefined;
  const patient = usePatience(since);
  const online = useOnline();
  const now = useSeconds(link.state === "waiting");
  const reconnect = <Button onClick={() => connection.reconnect()}>Reconnect now</Button>;

  if (link.state === "refused") {
    return (
      <Notice tone="bad" action={reconnect}>
        Not connected: {link.reason}
      </Notice>
    );
  }
  if (since === undefined || patient) return null;
  if (!online) {
    return <Notice tone="busy">You are offline. This page catches up by itself when the network is back.</Notice>;
  }
  const seconds = link.state === "waiting" ? Math.max(1, Math.ceil((link.retryAt - now) / 1000)) : 0;
  return (
    <Notice tone="busy" action={reconnect}>
      {opened ? "The connection was lost. The agent goes on without it." : "The session cannot be reached right now."}{" "}
      <span aria-hidden="true">
        {link.state === "waiting" && seconds > 3 ? `Next attempt in ${seconds} s.` : "Reconnecting…"}
      </span>
    </Notice>
  );
}

function usePatience(since: number | undefined): boolean {
  const [ended, setEnded] = useState<number>();
  useEffect(() => {
    if (since === undefined) return;
    const timer = setTimeout(() => setEnded(since), Math.max(0, since + PATIENCE_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [since]);
  return since !== undefined && ended !== since;
}

function useOnline(): boolean {
  return useSyncExternalStore(
    (listener) => {
      window.addEventListener("online", listener);
      window.addEventListener("offline", listener);
      return () => {
        window.removeEventListener("online", listener);
        window.removeEventListener("offline", listener);
      };
    },
    () => navigator.onLine,
  );
}
