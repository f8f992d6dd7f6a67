import { ApiError, sentenceOf } from "../../app/api";
import type { ClientMessage, ErrorCode, ServerMessage } from "../../protocol.generated";
import { backoff } from "./backoff";
import { EMPTY_SESSION, reduce, type SessionState } from "./session-state";

/** How the page is connected to the session. Times are in ms. */
export type Link =
  /** First attempt: nothing was ever shown. */
  | { state: "connecting" }
  | { state: "live" }
  /** Lost at `since`; an attempt is under way. */
  | { state: "reconnecting"; since: number }
  /** Lost at `since`; the next attempt is at `retryAt`. */
  | { state: "waiting"; since: number; retryAt: number }
  /** The server refuses; only a person can try again. */
  | { state: "refused"; reason: string }
  | { state: "missing" };

/** What components see. A new object whenever something changed. */
export interface SessionView {
  readonly link: Link;
  readonly session: SessionState;
  /** An older page was asked for. */
  readonly loadingHistory: boolean;
  /** Stop was pressed and the run has not ended yet. */
  readonly stopping: boolean;
  /** The newest refusal that belongs to no one request. */
  readonly complaint: { id: number; message: string } | undefined;
}

export interface Submission {
  /** Makes a repetition harmless: the same for every attempt to send the same words. */
  clientRequestId: string;
  content: string;
  model?: string | undefined;
  reasoningEffort?: string | undefined;
}

export type Outcome =
  /** `id` is the prompt's or the question's; empty of a new order. */
  | { ok: true; id: string }
  | { ok: false; code: ErrorCode | "WITHDRAWN" | "UNREACHABLE"; reason: string };

/** The part of a WebSocket that is used here. */
export interface Socket {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
}

/** What the connection needs from the world. */
export interface World {
  fetchToken(signal: AbortSignal): Promise<string>;
  openSocket(): Socket;
  now(): number;
  random(): number;
  newId(): string;
  /** Whether somebody can see the page. */
  visible(): boolean;
  /** Calls back when the page became visible or hidden, or the network came back. */
  watch(listener: () => void): () => void;
  /** Calls back before the next paint, or soon when there will be none. */
  soon(callback: () => void): void;
  /** Something changed that the list of sessions shows. */
  listChanged(): void;
}

const PING_EVERY_MS = 25_000;
const PONG_WITHIN_MS = 10_000;
const PONG_WITHIN_ON_WAKE_MS = 4_000;
const SUBSCRIBED_WITHIN_MS = 15_000;
const ACK_WITHIN_MS = 15_000;
const HISTORY_PAGE = 200;
const HISTORY_PAUSE_MS = 300;
const TYPING_EVERY_MS = 3_000;
/** A connection that lasted this long was good: the next loss starts counting from zero. */
const STEADY_MS = 5_000;
/** Two losses of step within this time wait like losses of the connection. */
const RESYNC_PAUSE_MS = 5_000;

const CLOSED_BY_CLIENT = 1000;
const NO_AUTHENTICATION = new Set([4001, 4002]);

interface Pending {
  frame: ClientMessage;
  settle(outcome: Outcome): void;
  deadline: ReturnType<typeof setTimeout> | undefined;
}

/** One page's connection to one session: it stays until `close`, whatever happens to the network or the server. */
export class SessionConnection {
  private view: SessionView = {
    link: { state: "connecting" },
    session: EMPTY_SESSION,
    loadingHistory: false,
    stopping: false,
    complaint: undefined,
  };
  private readonly listeners = new Set<() => void>();
  private notifying = false;

  private socket: Socket | undefined;
  private token: string | undefined;
  private opening: AbortController | undefined;
  private closed = true;
  private unwatch: (() => void) | undefined;

  private attempt = 0;
  private authRefusals = 0;
  private liveSince: number | undefined;
  private resyncedAt = Number.NEGATIVE_INFINITY;
  private typedAt = Number.NEGATIVE_INFINITY;
  private sentVisible: boolean | undefined;
  private complaints = 0;

  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private subscribeTimer: ReturnType<typeof setTimeout> | undefined;
  private pingTimer: ReturnType<typeof setInterval> | undefined;
  private pongTimer: ReturnType<typeof setTimeout> | undefined;
  private historyTimer: ReturnType<typeof setTimeout> | undefined;
  private typingTimer: ReturnType<typeof setTimeout> | undefined;

  private readonly pending = new Map<string, Pending>();

  constructor(private readonly world: World) {}

  // What components use.

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly read = (): SessionView => this.view;

  open(): void {
    if (!this.closed) return;
    this.closed = false;
    this.unwatch = this.world.watch(() => this.wake());
    this.connect();
  }

  close(): void {
    this.closed = true;
    this.unwatch?.();
    clearTimeout(this.retryTimer);
    clearTimeout(this.historyTimer);
    clearTimeout(this.typingTimer);
    this.dropSocket();
    for (const [id] of this.pending) this.withdraw(id);
  }

  /** Connects now, with a new token: what the person's button does. */
  reconnect(): void {
    this.token = undefined;
    this.attempt = 0;
    this.authRefusals = 0;
    this.connect();
  }

  /** Sends a prompt, again after every reconnection until it is answered or withdrawn. */
  submit(submission: Submission): Promise<Outcome> {
    const { clientRequestId, content, model, reasoningEffort } = submission;
    return this.request(clientRequestId, {
      type: "prompt",
      clientRequestId,
      content,
      ...(model === undefined ? {} : { model }),
      ...(reasoningEffort === undefined ? {} : { reasoningEffort }),
    });
  }

  /** Removes a prompt that still waits. */
  cancel(messageId: string): Promise<Outcome> {
    return this.ask((clientRequestId) => ({ type: "cancel_prompt", messageId, clientRequestId }));
  }

  /** Changes the words of a prompt that still waits. */
  edit(messageId: string, content: string): Promise<Outcome> {
    return this.ask((clientRequestId) => ({ type: "edit_prompt", messageId, content, clientRequestId }));
  }

  /** Puts a prompt that waits right before another one. */
  moveBefore(messageId: string, other: string): Promise<Outcome> {
    // All that wait are named, also one that is shown elsewhere: the session puts what is not named behind the rest.
    const waiting = this.view.session.queue.filter(({ status }) => status === "pending").map((prompt) => prompt.messageId);
    const rest = waiting.filter((id) => id !== messageId);
    // When the other one is gone meanwhile, there is nothing left to go before.
    const place = rest.includes(other) ? rest.indexOf(other) : waiting.indexOf(messageId);
    const messageIds = rest.toSpliced(place, 0, messageId);
    return this.ask((clientRequestId) => ({ type: "reorder_prompts", messageIds, clientRequestId }));
  }

  /** Stops what runs, and runs this prompt next. */
  sendNow(messageId: string): Promise<Outcome> {
    return this.ask((clientRequestId) => ({ type: "send_now", messageId, clientRequestId }));
  }

  /** Answers a question of the agent. */
  answerQuestion(requestId: string, answer: string): Promise<Outcome> {
    return this.ask((clientRequestId) => ({ type: "input_response", requestId, answer, clientRequestId }));
  }

  /** Stops trying to send what was not answered yet. The server may have taken it all the same. */
  withdraw(clientRequestId: string): void {
    this.settle(clientRequestId, { ok: false, code: "WITHDRAWN", reason: "Not sent." });
  }

  stop(): void {
    if (this.view.link.state !== "live") return;
    this.send({ type: "stop" });
    this.change({ stopping: true });
  }

  /** The person typed. Says so to the others, and to the sandbox that it will be needed. */
  typing(): void {
    const now = this.world.now();
    if (this.view.link.state !== "live" || now - this.typedAt < TYPING_EVERY_MS) return;
    this.typedAt = now;
    this.send({ type: "typing" });
  }

  loadHistory(): void {
    const { hasMore, cursor } = this.view.session.timeline;
    if (this.view.link.state !== "live" || this.view.loadingHistory || !hasMore || cursor === null) return;
    this.change({ loadingHistory: true });
    this.send({ type: "fetch_history", cursor, limit: HISTORY_PAGE });
  }

  // The connection's life.

  private connect(): void {
    if (this.closed) return;
    clearTimeout(this.retryTimer);
    this.dropSocket();
    const opening = new AbortController();
    this.opening = opening;
    if (this.view.session.session === undefined) this.change({ link: { state: "connecting" } });
    else this.change({ link: { state: "reconnecting", since: this.lostSince() } });
    this.obtainToken(opening.signal)
      .then((token) => {
        if (!opening.signal.aborted) this.openSocket(token);
      })
      .catch((error: unknown) => {
        if (!opening.signal.aborted) this.refusedToken(error);
      });
  }

  private async obtainToken(signal: AbortSignal): Promise<string> {
    this.token ??= await this.world.fetchToken(signal);
    return this.token;
  }

  private refusedToken(error: unknown): void {
    // An address that is no session's is refused as malformed, or not found.
    if (error instanceof ApiError && (error.status === 404 || error.status === 400)) this.giveUp({ state: "missing" });
    else if (error instanceof ApiError && !error.passing) this.giveUp({ state: "refused", reason: sentenceOf(error) });
    else this.retryLater();
  }

  private openSocket(token: string): void {
    const socket = this.world.openSocket();
    this.socket = socket;
    // A socket that was put away must not change anything any more.
    const current = () => this.socket === socket;
    this.subscribeTimer = setTimeout(() => {
      if (current()) this.lost();
    }, SUBSCRIBED_WITHIN_MS);
    socket.onopen = () => {
      if (!current()) return;
      const { session, timeline } = this.view.session;
      this.send({
        type: "subscribe",
        token,
        clientId: this.world.newId(),
        dialect: 2,
        ...(session === undefined ? {} : { afterRevision: timeline.revision }),
      });
    };
    socket.onmessage = ({ data }) => {
      if (current() && typeof data === "string") this.receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (!current()) return;
      if (NO_AUTHENTICATION.has(code)) this.refusedSocket(reason);
      else this.lost();
    };
  }

  private refusedSocket(reason: string): void {
    this.token = undefined;
    this.countSteadiness();
    this.authRefusals += 1;
    if (this.authRefusals === 1) this.connect();
    else this.giveUp({ state: "refused", reason: reason === "" ? "The session refused the connection." : reason });
  }

  private giveUp(link: Link): void {
    this.dropSocket();
    this.change({ link });
    const reason = link.state === "refused" ? link.reason : "This session does not exist.";
    for (const [id] of this.pending) this.settle(id, { ok: false, code: "UNREACHABLE", reason });
  }

  /** The connection is gone or no longer to be trusted. */
  private lost(): void {
    this.countSteadiness();
    this.dropSocket();
    this.retryLater();
  }

  private retryLater(): void {
    const wait = backoff(this.attempt, this.world.random());
    this.attempt += 1;
    this.change({ link: { state: "waiting", since: this.lostSince(), retryAt: this.world.now() + wait } });
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.connect(), wait);
  }

  /** Something was missed: a new subscription brings it. */
  private resync(): void {
    const now = this.world.now();
    const again = now - this.resyncedAt < RESYNC_PAUSE_MS;
    this.resyncedAt = now;
    if (again) this.lost();
    else this.connect();
  }

  private wake(): void {
    this.tellVisibility();
    if (!this.world.visible()) return;
    const { state } = this.view.link;
    if (state === "waiting") this.connect();
    else if (state === "live") this.ping(PONG_WITHIN_ON_WAKE_MS);
  }

  private lostSince(): number {
    const { link } = this.view;
    return link.state === "waiting" || link.state === "reconnecting" ? link.since : this.world.now();
  }

  private countSteadiness(): void {
    if (this.liveSince !== undefined && this.world.now() - this.liveSince >= STEADY_MS) {
      this.attempt = 0;
      this.authRefusals = 0;
    }
    this.liveSince = undefined;
  }

  private dropSocket(): void {
    const { socket } = this;
    this.opening?.abort();
    this.socket = undefined;
    clearTimeout(this.subscribeTimer);
    clearInterval(this.pingTimer);
    clearTimeout(this.pongTimer);
    this.pongTimer = undefined;
    for (const request of this.pending.values()) clearTimeout(request.deadline);
    if (socket !== undefined) {
      socket.onopen = () => socket.close(CLOSED_BY_CLIENT);
      socket.onmessage = null;
      socket.onclose = null;
      socket.close(CLOSED_BY_CLIENT);
    }
    if (this.view.loadingHistory) this.change({ loadingHistory: false });
  }

  private ping(within: number): void {
    this.send({ type: "ping" });
    this.pongTimer ??= setTimeout(() => this.lost(), within);
  }

  private tellVisibility(): void {
    const visible = this.world.visible();
    if (this.view.link.state !== "live" || this.sentVisible === visible) return;
    this.sentVisible = visible;
    this.send({ type: "presence", status: visible ? "active" : "idle" });
  }

  private send(message: ClientMessage): void {
    try {
      this.socket?.send(JSON.stringify(message));
    } catch {
      // Not open any more: its close event follows, and what matters is sent again.
    }
  }

  // What comes in.

  private receive(text: string): void {
    // Anything that arrives shows that the other side lives.
    clearTimeout(this.pongTimer);
    this.pongTimer = undefined;
    let message: ServerMessage;
    try {
      message = JSON.parse(text) as ServerMessage;
    } catch {
      return;
    }
    const { state, missed } = reduce(this.view.session, message, this.world.now());
    if (state !== this.view.session) this.change({ session: state });
    this.answer(message);
    if (missed) this.resync();
  }

  /** What a message means for this connection, beside the state. */
  private answer(message: ServerMessage): void {
    switch (message.type) {
      case "batch":
        for (const each of message.messages) this.answer(each);
        break;
      case "subscribed":
        this.subscribed();
        break;
      case "prompt_queued":
      case "prompt_cancelled":
      case "prompt_edited":
      case "prompt_sent_now":
        this.settle(message.clientRequestId, { ok: true, id: message.messageId });
        this.world.listChanged();
        break;
      case "prompts_reordered":
        this.settle(message.clientRequestId, { ok: true, id: "" });
        break;
      case "input_accepted":
        this.settle(message.clientRequestId, { ok: true, id: message.requestId });
        break;
      case "error":
        this.complain(message.code, message.message, message.clientRequestId);
        break;
      case "history_page":
        this.change({ loadingHistory: false });
        break;
      case "processing_status":
        if (!message.isProcessing) this.change({ stopping: false });
        break;
      case "typing":
        this.forgetTypingLater();
        break;
      case "session_status":
      case "session_title":
      case "artifact_created":
      case "artifact_updated":
        this.world.listChanged();
        break;
      default:
        break;
    }
  }

  private subscribed(): void {
    clearTimeout(this.subscribeTimer);
    this.liveSince = this.world.now();
    this.change({ link: { state: "live" }, stopping: this.view.stopping && this.view.session.session?.isProcessing === true });
    clearInterval(this.pingTimer);
    this.pingTimer = setInterval(() => this.ping(PONG_WITHIN_MS), PING_EVERY_MS);
    // The session takes a new subscriber to be active.
    this.sentVisible = true;
    this.tellVisibility();
    for (const [id, request] of this.pending) this.sendRequest(id, request);
  }

  private complain(code: ErrorCode, message: string, clientRequestId: string | undefined): void {
    if (clientRequestId !== undefined && this.pending.has(clientRequestId)) {
      this.settle(clientRequestId, { ok: false, code, reason: message });
      return;
    }
    if (this.view.loadingHistory && (code === "RATE_LIMITED" || code === "INVALID_CURSOR")) {
      this.change({ loadingHistory: false });
      if (code === "RATE_LIMITED") this.historyTimer = setTimeout(() => this.loadHistory(), HISTORY_PAUSE_MS);
      return;
    }
    this.complaints += 1;
    this.change({ complaint: { id: this.complaints, message } });
  }

  private forgetTypingLater(): void {
    clearTimeout(this.typingTimer);
    const next = Math.min(...[...this.view.session.typing.values()].map((person) => person.until));
    if (!Number.isFinite(next)) return;
    this.typingTimer = setTimeout(
      () => {
        const now = this.world.now();
        const typing = new Map([...this.view.session.typing].filter(([, person]) => person.until > now));
        this.change({ session: { ...this.view.session, typing } });
        this.forgetTypingLater();
      },
      Math.max(0, next - this.world.now()),
    );
  }

  // Requests that are answered by their id.

  private ask(frame: (clientRequestId: string) => ClientMessage): Promise<Outcome> {
    const id = this.world.newId();
    return this.request(id, frame(id));
  }

  private request(id: string, frame: ClientMessage): Promise<Outcome> {
    this.withdraw(id);
    return new Promise((settle) => {
      const { link } = this.view;
      if (this.closed || link.state === "missing" || link.state === "refused") {
        const reason = link.state === "refused" ? link.reason : "This session cannot be reached.";
        settle({ ok: false, code: "UNREACHABLE", reason });
        return;
      }
      const request: Pending = { frame, settle, deadline: undefined };
      this.pending.set(id, request);
      if (link.state === "live") this.sendRequest(id, request);
    });
  }

  private sendRequest(id: string, request: Pending): void {
    this.send(request.frame);
    clearTimeout(request.deadline);
    request.deadline = setTimeout(() => {
      // A session that does not answer is reached anew; the request is then sent again.
      if (this.pending.has(id)) this.lost();
    }, ACK_WITHIN_MS);
  }

  private settle(id: string, outcome: Outcome): void {
    const request = this.pending.get(id);
    if (request === undefined) return;
    clearTimeout(request.deadline);
    this.pending.delete(id);
    request.settle(outcome);
  }

  // Listeners are told once a frame, however much arrives.

  private change(part: Partial<SessionView>): void {
    this.view = { ...this.view, ...part };
    if (this.notifying) return;
    this.notifying = true;
    this.world.soon(() => {
      this.notifying = false;
      for (const listener of this.listeners) listener();
    });
  }
}
