import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import { sessionList } from "../session-list/list";
import { browserWorld } from "./connection/browser";
import { SessionConnection, type SessionView } from "./connection/connection";

const Connection = createContext<SessionConnection | undefined>(undefined);

/** Connects to a session for as long as it is shown. */
export function SessionProvider({ id, children }: { id: string; children: ReactNode }) {
  const [connection] = useState(() => new SessionConnection(browserWorld(id, () => sessionList.changed())));
  useEffect(() => {
    connection.open();
    return () => connection.close();
  }, [connection]);
  return <Connection.Provider value={connection}>{children}</Connection.Provider>;
}

export function useConnection(): SessionConnection {
  const connection = useContext(Connection);
  if (connection === undefined) throw new Error("used outside of a session");
  return connection;
}

/** A part of the session's view. `select` must give the same object as long as nothing in it changed. */
export function useSession<T>(select: (view: SessionView) => T): T {
  const connection = useConnection();
  return useSyncExternalStore(connection.subscribe, () => select(connection.read()));
}
