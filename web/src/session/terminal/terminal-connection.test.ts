import { describe, expect, it } from "vitest";
import { TerminalConnection, type Screen, type TerminalSocket } from "./terminal-connection";

const SIZE = { cols: 80, rows: 24 };

class FakeSocket implements TerminalSocket {
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  sent: unknown[] = [];
  connecting = true;
  closed = false;

  open(): void {
    this.connecting = false;
    this.onopen?.();
  }

  send(data: string | Uint8Array): void {
    // As a browser's does.
    if (this.connecting) throw new DOMException("Still in CONNECTING state", "InvalidStateError");
    this.sent.push(typeof data === "string" ? JSON.parse(data) : new TextDecoder().decode(data));
  }

  close(): void {
    this.closed = true;
  }

  tell(event: object): void {
    this.onmessage?.({ data: JSON.stringify(event) });
  }

  output(text: string): void {
    this.onmessage?.({ data: new TextEncoder().encode(text).buffer });
  }
}

function bench() {
  const sockets: FakeSocket[] = [];
  const timers: { callback: () => void; ms: number; off: boolean }[] = [];
  const shown: string[] = [];
  const connection = new TerminalConnection({
    openSocket: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    random: () => 0,
    later: (callback, ms) => {
      const timer = { callback, ms, off: false };
      timers.push(timer);
      return () => {
        timer.off = true;
      };
    },
  });
  let shownLater: (() => void)[] | undefined;
  const screen: Screen = {
    reset: () => shown.splice(0, shown.length, "reset"),
    resize: (size) => shown.push(`${size.cols}x${size.rows}`),
    write: (bytes, done) => {
      shown.push(new TextDecoder().decode(bytes));
      if (shownLater === undefined) done();
      else shownLater.push(done);
    },
    fits: () => SIZE,
  };
  connection.open(screen);
  const last = () => sockets[sockets.length - 1] as FakeSocket;
  const pass = () => {
    const due = timers.filter((timer) => !timer.off);
    for (const timer of due) {
      timer.off = true;
      timer.callback();
    }
  };
  const start = () => {
    last().open();
    last().tell({ type: "sandbox", reachable: true, running: [] });
    last().tell({ type: "opened", terminal: 0, size: SIZE, started: true });
  };
  /** Output is no more shown as it comes, but when the result is called. */
  const showLater = () => {
    const waiting: (() => void)[] = [];
    shownLater = waiting;
    return () => {
      shownLater = undefined;
      for (const done of waiting) done();
    };
  };
  return { connection, sockets, shown, last, pass, start, showLater };
}

describe("a terminal's connection", () => {
  it("opens the terminal when the sandbox is there and shows what comes", () => {
    const { connection, last, shown, start } = bench();
    start();
    expect(last().sent).toEqual([{ type: "open", terminal: 0, size: SIZE }]);
    last().output("hello");
    last().tell({ type: "resized", size: { cols: 100, rows: 30 } });
    expect(shown).toEqual(["reset", "hello", "100x30"]);
    expect(connection.read().state).toEqual({ at: "open" });
    connection.type(new TextEncoder().encode("ls\n"));
    expect(last().sent.at(-1)).toBe("ls\n");
  });

  it("cuts a long paste and tells what was shown", () => {
    const { connection, last, start } = bench();
    start();
    connection.type(new TextEncoder().encode("x".repeat(40_000)));
    const pieces = last().sent.slice(1) as string[];
    expect(pieces.map((piece) => piece.length)).toEqual([16_384, 16_384, 7_232]);
    last().output("y".repeat(10_000));
    last().output("y".repeat(10_000));
    expect(last().sent.at(-1)).toEqual({ type: "shown", bytes: 20_000 });
  });

  it("tells what was shown of all terminals of a socket together", () => {
    const { connection, last, start } = bench();
    start();
    last().output("y".repeat(10_000));
    connection.watch(1);
    last().tell({ type: "opened", terminal: 1, size: SIZE, started: true });
    last().output("y".repeat(10_000));
    expect(last().sent.at(-1)).toEqual({ type: "shown", bytes: 20_000 });
  });

  it("tells a socket nothing of what an earlier one sent", () => {
    const { last, pass, start, showLater } = bench();
    start();
    const show = showLater();
    last().output("y".repeat(10_000));
    last().onclose?.();
    pass();
    start();
    show();
    last().output("y".repeat(10_000));
    expect(last().sent).toEqual([{ type: "open", terminal: 0, size: SIZE }]);
  });

  it("waits for a sandbox that is away and goes on with it", () => {
    const { connection, last, start } = bench();
    start();
    last().tell({ type: "sandbox", reachable: false, running: [] });
    expect(connection.read().state).toEqual({ at: "away" });
    connection.type(new TextEncoder().encode("lost"));
    expect(last().sent).toHaveLength(1);
    last().tell({ type: "sandbox", reachable: true, running: [0] });
    last().tell({ type: "opened", terminal: 0, size: SIZE, started: false });
    expect(connection.read().state).toEqual({ at: "open" });
  });

  it("asks once, also while the sandbox is away", () => {
    const { connection, last } = bench();
    last().open();
    last().tell({ type: "sandbox", reachable: false, running: [] });
    expect(connection.read().state).toEqual({ at: "away" });
    last().tell({ type: "sandbox", reachable: true, running: [] });
    last().tell({ type: "sandbox", reachable: true, running: [0] });
    expect(last().sent).toEqual([{ type: "open", terminal: 0, size: SIZE }]);
  });

  it("opens the terminal that was chosen while it connected", () => {
    const { connection, last } = bench();
    connection.watch(1);
    expect(connection.read()).toMatchObject({ state: { at: "connecting" }, terminal: 1 });
    last().open();
    connection.watch(2);
    last().tell({ type: "sandbox", reachable: true, running: [0] });
    expect(last().sent).toEqual([{ type: "open", terminal: 2, size: SIZE }]);
  });

  it.each([
    [{ type: "exited", terminal: 0, code: 4 }, { at: "exited", code: 4 }],
    [{ type: "restarted" }, { at: "restarted" }],
  ])("says that a shell has ended, also after the sandbox was away: %j", (event, state) => {
    const { connection, last, start } = bench();
    start();
    last().tell(event);
    last().tell({ type: "sandbox", reachable: false, running: [] });
    expect(connection.read().state).toEqual(state);
    last().tell({ type: "sandbox", reachable: true, running: [] });
    expect(connection.read().state).toEqual(state);
  });

  it("says that a sandbox restarted, and opens the terminal anew when asked", () => {
    const { connection, last, start } = bench();
    start();
    last().tell({ type: "sandbox", reachable: true, running: [] });
    last().tell({ type: "restarted" });
    expect(connection.read().state).toEqual({ at: "restarted" });
    connection.watch(0);
    expect(last().sent.at(-1)).toEqual({ type: "open", terminal: 0, size: SIZE });
  });

  it("connects again after a loss, and after an end only when asked", () => {
    const { connection, sockets, last, pass, start } = bench();
    start();
    last().onclose?.();
    expect(connection.read().state).toEqual({ at: "lost", attempt: 0 });
    pass();
    expect(sockets).toHaveLength(2);
    start();
    last().tell({ type: "ended", reason: "sandbox_ended" });
    last().onclose?.();
    pass();
    expect(sockets).toHaveLength(2);
    connection.retry();
    expect(sockets).toHaveLength(3);
    last().tell({ type: "ended", reason: "sandbox_replaced" });
    last().onclose?.();
    pass();
    expect(sockets).toHaveLength(4);
  });

  it("gives a socket up that does not answer", () => {
    const { sockets, last, pass, start } = bench();
    start();
    const first = last();
    pass();
    expect(first.sent.at(-1)).toEqual({ type: "ping" });
    pass();
    expect(first.closed).toBe(true);
    pass();
    expect(sockets).toHaveLength(2);
  });

  it("gives a socket up that never opens", () => {
    const { connection, sockets, last, pass, start } = bench();
    const first = last();
    pass();
    expect(first.closed).toBe(true);
    expect(connection.read().state.at).toBe("lost");
    pass();
    expect(sockets).toHaveLength(2);
    start();
    expect(connection.read().state).toEqual({ at: "open" });
  });

  it("passes over what it does not know, and shows what was refused", () => {
    const { connection, last, start } = bench();
    start();
    last().onmessage?.({ data: "{" });
    last().tell({ type: "news" });
    last().tell({ type: "refused", message: "No shell." });
    expect(connection.read()).toMatchObject({ state: { at: "open" }, refusal: "No shell." });
  });
});
