import { useSyncExternalStore } from "react";
import { get, sentenceOf } from "../app/api";
import type { SessionList, SessionListItem } from "../protocol.generated";

export interface ListView {
  readonly sessions: readonly SessionListItem[];
  readonly state: "loading" | "ready" | "failed";
  readonly reason: string | undefined;
  readonly hasMore: boolean;
  readonly loadingMore: boolean;
}

const PAGE = 30;
const MOST = 100;
const REFRESH_EVERY_MS = 15_000;
/** Changes reach the list's index a moment after they reach the session. */
const SETTLE_MS = 700;

/** The sessions of the deployment, newest change first; read again while somebody looks and when a change is known. */
class Sessions {
  private view: ListView = { sessions: [], state: "loading", reason: undefined, hasMore: false, loadingMore: false };
  private readonly listeners = new Set<() => void>();
  private every: ReturnType<typeof setInterval> | undefined;
  private later: ReturnType<typeof setTimeout> | undefined;
  private reading = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) {
      void this.refresh();
      this.every = setInterval(() => this.refreshIfSeen(), REFRESH_EVERY_MS);
      document.addEventListener("visibilitychange", this.refreshIfSeen);
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) {
        clearInterval(this.every);
        document.removeEventListener("visibilitychange", this.refreshIfSeen);
      }
    };
  };

  readonly read = (): ListView => this.view;

  /** Something in the list changed: read it soon, once for many changes. */
  changed(): void {
    clearTimeout(this.later);
    this.later = setTimeout(() => void this.refresh(), SETTLE_MS);
  }

  async refresh(): Promise<void> {
    const reading = (this.reading += 1);
    if (this.view.state === "failed") this.become({ state: "loading", reason: undefined });
    const limit = Math.min(MOST, Math.max(PAGE, this.view.sessions.length));
    try {
      const page = await get<SessionList>(`/api/sessions?limit=${limit}&offset=0`);
      if (reading !== this.reading) return;
      const rest = this.view.sessions.slice(limit);
      const known = new Set(page.sessions.map((session) => session.id));
      this.become({
        sessions: [...page.sessions, ...rest.filter((session) => !known.has(session.id))],
        state: "ready",
        reason: undefined,
        hasMore: rest.length > 0 ? this.view.hasMore : page.hasMore,
      });
    } catch (error) {
      if (reading !== this.reading) return;
      // A list that was shown stays; a passing failure is mended by the next reading.
      if (this.view.state !== "ready") this.become({ state: "failed", reason: sentenceOf(error) });
    }
  }

  async more(): Promise<void> {
    if (this.view.loadingMore) return;
    this.become({ loadingMore: true });
    try {
      const page = await get<SessionList>(`/api/sessions?limit=${PAGE}&offset=${this.view.sessions.length}`);
      const known = new Set(this.view.sessions.map((session) => session.id));
      this.become({
        sessions: [...this.view.sessions, ...page.sessions.filter((session) => !known.has(session.id))],
        hasMore: page.hasMore,
        loadingMore: false,
      });
    } catch {
      this.become({ loadingMore: false });
    }
  }

  private readonly refreshIfSeen = (): void => {
    if (document.visibilityState === "visible") void this.refresh();
  };

  private become(part: Partial<ListView>): void {
    this.view = { ...this.view, ...part };
    for (const listener of this.listeners) listener();
  }
}

export const sessionList = new Sessions();

export function useSessionList(): ListView {
  return useSyncExternalStore(sessionList.subscribe, sessionList.read);
}
