import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { socketUrl } from "../../app/api";
import { useTheme } from "../../app/theme";
import { Button, IconButton } from "../../design/Button";
import { CloseIcon, PlusIcon } from "../../design/icons";
import { useNarrow, useSystemDark, useTouch } from "../../design/media";
import { useSession } from "../SessionContext";
import { sandboxStatus } from "../header/sandbox-words";
import { KEYS, withControl } from "./keys";
import { XtermScreen } from "./screen";
import { TerminalConnection, type TerminalSocket, type TerminalView } from "./terminal-connection";
import { wordsOf } from "./terminal-words";
import styles from "./TerminalPanel.module.css";

/** Terminals of one sandbox. */
const MOST = 4;

function connectionOf(id: string): TerminalConnection {
  return new TerminalConnection({
    openSocket: () => new WebSocket(socketUrl(`/api/sessions/${encodeURIComponent(id)}/terminal`)) as TerminalSocket,
    random: () => Math.random(),
    later: (callback, ms) => {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });
}

/** The terminals of a session's sandbox, shared by all who have them open. */
export default function TerminalPanel({ id, onClose }: { id: string; onClose: () => void }) {
  const [connection] = useState(() => connectionOf(id));
  const view = useSyncExternalStore(connection.subscribe, connection.read);
  const ready = useSession(({ session }) => session.session !== undefined && sandboxStatus(session.session) === "ready");
  const [control, setControl] = useState(false);
  const held = useRef(false);
  const screen = useRef<XtermScreen>(undefined);
  const close = useRef<HTMLButtonElement>(null);
  const theme = useTheme();
  const systemDark = useSystemDark();
  const narrow = useNarrow();
  const touch = useTouch();

  const type = useCallback(
    (keys: string) => {
      const typed = held.current ? withControl(keys) : keys;
      held.current = false;
      setControl(false);
      connection.type(new TextEncoder().encode(typed));
    },
    [connection],
  );
  const mount = useCallback(
    (element: HTMLDivElement) => {
      const shown = new XtermScreen(element, {
        keys: type,
        resized: () => connection.fit(),
        leave: () => close.current?.focus(),
      });
      screen.current = shown;
      connection.open(shown);
      shown.focus();
      return () => {
        screen.current = undefined;
        connection.close();
        shown.dispose();
      };
    },
    [connection, type],
  );

  useEffect(() => screen.current?.recolour(), [theme, systemDark]);

  // A sandbox that came up since is connected to by itself.
  const ended = view.state.at === "ended";
  useEffect(() => {
    if (ready && ended) connection.retry();
    // Only its coming up matters, not an end while it is said to be up.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [ready]);

  const hold = () => {
    held.current = !held.current;
    setControl(held.current);
    screen.current?.focus();
  };
  // The button that was pressed goes away, and would take the focus with it.
  const again = () => {
    if (view.state.at === "exited" || view.state.at === "restarted") connection.watch(view.terminal);
    else connection.retry();
    screen.current?.focus();
  };
  const press = (keys: string) => {
    type(keys);
    screen.current?.focus();
  };

  return (
    <section className={styles["panel"]} aria-label="Terminal">
      <div className={styles["bar"]}>
        <Tabs view={view} onWatch={(terminal) => connection.watch(terminal)} />
        <IconButton ref={close} label="Hide terminal" onClick={onClose}>
          <CloseIcon />
        </IconButton>
      </div>
      <div className={styles["stage"]}>
        <div className={styles["screen"]} ref={mount} />
        <Overlay view={view} onAgain={again} />
      </div>
      {view.refusal !== undefined && (
        <p className={styles["refusal"]} role="alert">
          {view.refusal}
        </p>
      )}
      {(narrow || touch) && (
        <div className={styles["keys"]} role="toolbar" aria-label="Terminal keys">
          <button type="button" className={styles["key"]} aria-pressed={control} aria-label="Control" onClick={hold}>
            Ctrl
          </button>
          {KEYS.map((key) => (
            <button type="button" key={key.name} className={styles["key"]} aria-label={key.name} onClick={() => press(key.types)}>
              {key.shown}
            </button>
          ))}
        </div>
      )}
    </section>
  );
}

function Tabs({ view, onWatch }: { view: TerminalView; onWatch: (terminal: number) => void }) {
  const shown = [...new Set([...view.running, view.terminal])].sort((a, b) => a - b);
  const next = Array.from({ length: MOST }, (_, number) => number).find((number) => !shown.includes(number));
  return (
    <div className={styles["tabs"]} role="group" aria-label="Terminals">
      {shown.map((terminal) => (
        <button
          type="button"
          key={terminal}
          className={styles["tab"]}
          aria-pressed={terminal === view.terminal}
          aria-label={`Terminal ${terminal + 1}`}
          onClick={() => onWatch(terminal)}
        >
          {terminal + 1}
        </button>
      ))}
      {next !== undefined && (
        <IconButton label="New terminal" disabled={view.state.at !== "open"} onClick={() => onWatch(next)}>
          <PlusIcon />
        </IconButton>
      )}
    </div>
  );
}

function Overlay({ view, onAgain }: { view: TerminalView; onAgain: () => void }) {
  const words = wordsOf(view.state);
  return (
    <div className={styles["overlay"]} role="status" hidden={words === undefined}>
      {words !== undefined && <p>{words.text}</p>}
      {words?.action !== undefined && <Button onClick={onAgain}>{words.action}</Button>}
    </div>
  );
}
