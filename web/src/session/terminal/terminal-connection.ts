import type { TerminalEnd, TerminalEvent, TerminalMessage, TerminalSize } from "../../protocol.generated";
import { backoff } from "../connection/backoff";

/** Between two pings; without an answer by the next one the socket is given up. */
const PING_MS = 25_000;
/** Output that was shown is told in steps of so many bytes. */
const TOLD_BYTES = 16 * 1024;
/** Keys of one frame, at most. */
const KEYS_BYTES = 16 * 1024;

/** What of a WebSocket is used. */
export interface TerminalSocket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** What the connection needs of the browser. */
export interface TerminalWorld {
  openSocket(): TerminalSocket;
  random(): number;
  later(callback: () => void, ms: number): () => void;
}

/** What shows the terminal. */
export interface Screen {
  /** Drops what is shown: what follows is all there was. */
  reset(size: TerminalSize): void;
  resize(size: TerminalSize): void;
  /** `shown` is called once it is. */
  write(bytes: Uint8Array, shown: () => void): void;
  /** The size that fits now. */
  fits(): TerminalSize;
}

export type TerminalState =
  | { at: "connecting" }
  | { at: "lost"; attempt: number }
  | { at: "away" }
  | { at: "open" }
  | { at: "exited"; code: number | null }
  | { at: "restarted" }
  | { at: "ended"; reason: TerminalEnd };

export interface TerminalView {
  readonly state: TerminalState;
  /** Which terminal is watched. */
  readonly terminal: number;
  /** Those that run. */
  readonly running: readonly number[];
  /** What was refused last. */
  readonly refusal: string | undefined;
}

/** A socket to the terminals of a session's sandbox, kept as long as it is open. */
export class TerminalConnection {
  #view: TerminalView = { state: { at: "connecting" }, terminal: 0, running: [], refusal: undefined };
  #listeners = new Set<() => void>();
  #socket: TerminalSocket | undefined;
  #screen: Screen | undefined;
  #isOpen = false;
  #attempt = 0;
  /** Whether this socket has asked for a terminal. */
  #asked = false;
  #answered = false;
  /** Bytes that this socket was not told of yet; the relay counts them for the socket, whichever terminal they are of. */
  #shown = 0;
  #cancelRetry: (() => void) | undefined;
  #cancelPing: (() => void) | undefined;

  constructor(private readonly world: TerminalWorld) {}

  readonly read = (): TerminalView => this.#view;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  open(screen: Screen): void {
    this.#isOpen = true;
    this.#screen = screen;
    this.#connect();
  }

  close(): void {
    this.#isOpen = false;
    this.#screen = undefined;
    this.#drop();
  }

  /** Connects anew, at once. */
  retry(): void {
    if (!this.#isOpen) return;
    this.#attempt = 0;
    this.#drop();
    this.#connect();
  }

  /** Watches a terminal, which is started if it does not run. */
  watch(terminal: number): void {
    this.#change({ terminal, refusal: undefined });
    if (this.#view.state.at === "ended") this.retry();
    // A socket that has not asked yet asks for this one, as soon as it may.
    else if (this.#asked) this.#watch();
  }

  type(keys: Uint8Array<ArrayBuffer>): void {
    if (this.#view.state.at !== "open") return;
    for (let from = 0; from < keys.length; from += KEYS_BYTES) this.#socket?.send(keys.slice(from, from + KEYS_BYTES));
  }

  /** The screen has another size. */
  fit(): void {
    if (this.#view.state.at === "open" && this.#screen !== undefined) {
      this.#say({ type: "resize", size: this.#screen.fits() });
    }
  }

  #change(change: Partial<TerminalView>): void {
    this.#view = { ...this.#view, ...change };
    for (const listener of this.#listeners) listener();
  }

  #say(message: TerminalMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #drop(): void {
    this.#cancelRetry?.();
    this.#cancelPing?.();
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #connect(): void {
    this.#change({ state: { at: "connecting" }, refusal: undefined });
    const socket = this.world.openSocket();
    socket.binaryType = "arraybuffer";
    this.#asked = false;
    this.#answered = false;
    this.#shown = 0;
    this.#socket = socket;
    // From now on: a handshake may hang as well.
    this.#ping();
    socket.onopen = () => {
      this.#answered = true;
    };
    socket.onmessage = ({ data }) => {
      this.#answered = true;
      if (typeof data === "string") this.#told(data);
      else if (data instanceof ArrayBuffer) this.#output(new Uint8Array(data));
    };
    socket.onclose = () => this.#lost();
  }

  #lost(): void {
    this.#drop();
    if (!this.#isOpen || (this.#view.state.at === "ended" && this.#view.state.reason !== "sandbox_replaced")) return;
    const attempt = this.#attempt++;
    this.#change({ state: { at: "lost", attempt } });
    this.#cancelRetry = this.world.later(() => this.#connect(), backoff(attempt, this.world.random()));
  }

  #ping(): void {
    this.#cancelPing = this.world.later(() => {
      if (!this.#answered) {
        this.#lost();
        return;
      }
      this.#answered = false;
      this.#say({ type: "ping" });
      this.#ping();
    }, PING_MS);
  }

  #watch(): void {
    if (this.#socket === undefined || this.#screen === undefined) return;
    this.#asked = true;
    this.#say({ type: "open", terminal: this.#view.terminal, size: this.#screen.fits() });
  }

  #output(bytes: Uint8Array): void {
    const socket = this.#socket;
    this.#screen?.write(bytes, () => {
      if (socket !== this.#socket) return;
      this.#shown += bytes.length;
      if (this.#shown < TOLD_BYTES) return;
      this.#say({ type: "shown", bytes: this.#shown });
      this.#shown = 0;
    });
  }

  #told(text: string): void {
    const event = parse(text);
    switch (event?.type) {
      case "sandbox": {
        this.#change({ running: event.running });
        // Asked for at once: who waits for a sandbox gets the terminal with it.
        if (!this.#asked) this.#watch();
        const { at } = this.#view.state;
        // A shell that has ended is opened again by a person only, whether the sandbox is there or not.
        if (!event.reachable && (at === "connecting" || at === "open")) this.#change({ state: { at: "away" } });
        else if (event.reachable && at === "away") this.#change({ state: { at: "connecting" } });
        return;
      }
      case "opened":
        this.#attempt = 0;
        this.#screen?.reset(event.size);
        this.#change({ state: { at: "open" }, refusal: undefined });
        return;
      case "resized":
        this.#screen?.resize(event.size);
        return;
      case "exited":
        this.#change({ state: { at: "exited", code: event.code } });
        return;
      case "restarted":
        this.#change({ state: { at: "restarted" } });
        return;
      case "refused":
        this.#change({ refusal: event.message });
        return;
      case "ended":
        this.#change({ state: { at: "ended", reason: event.reason } });
        return;
      case "pong":
      case undefined:
        return;
    }
  }
}

/** What a newer server says beyond this is passed over. */
function parse(text: string): TerminalEvent | undefined {
  try {
    return JSON.parse(text) as TerminalEvent;
  } catch {
    return undefined;
  }
}
