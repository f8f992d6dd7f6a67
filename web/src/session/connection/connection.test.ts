import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../app/api";
import type { ClientMessage, ServerMessage, SessionInfo, TimelineEvent } from "../../protocol.generated";
import { SessionConnection, type Outcome, type Socket, type World } from "./connection";

class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: ClientMessage[] = [];
  closed = false;

  send(text: string) {
    this.sent.push(JSON.parse(text) as ClientMessage);
  }

  close() {
    this.closed = true;
  }

  last<T extends ClientMessage["type"]>(type: T) {
    return this.sent.findLast((message): message is Extract<ClientMessage, { type: T }> => message.type === type);
  }

  receive(message: ServerMessage) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  drop(code = 1006, reason = "") {
    this.onclose?.({ code, reason });
  }

  accept(page: { events?: TimelineEvent[]; revision?: number; mode?: "delta" | "snapshot" } = {}) {
    this.onopen?.();
    this.receive({
      type: "subscribed",
      dialect: 2,
      participantId: "p",
      participant: { participantId: "p", name: "Ada" },
      session: { id: "s1", isProcessing: false } as SessionInfo,
      artifacts: [],
      promptQueue: [],
      spawnError: null,
      openParts: [],
      revision: page.revision ?? 0,
      timeline: { mode: page.mode ?? "snapshot", events: page.events ?? [], hasMore: false, cursor: null },
    });
  }
}

let sockets: FakeSocket[];
let tokens: (string | Error)[];
let tokensAsked: number;
let visible: boolean;
let woken: (() => void) | undefined;
let connection: SessionConnection;
let ids: number;

const socket = () => {
  const newest = sockets.at(-1);
  if (newest === undefined) throw new Error("no socket was opened");
  return newest;
};
const link = () => connection.read().link.state;
const settle = () => vi.advanceTimersByTimeAsync(0);

async function dropAndRetry() {
  socket().drop();
  const state = connection.read().link;
  if (state.state !== "waiting") throw new Error(state.state);
  await vi.advanceTimersByTimeAsync(state.retryAt - Date.now());
}

beforeEach(async () => {
  vi.useFakeTimers({ now: 1_000_000 });
  sockets = [];
  tokens = [];
  tokensAsked = 0;
  visible = true;
  ids = 0;
  const world: World = {
    fetchToken: () => {
      tokensAsked += 1;
      const next = tokens.shift() ?? `token-${tokensAsked}`;
      return typeof next === "string" ? Promise.resolve(next) : Promise.reject(next);
    },
    openSocket: () => {
      const opened = new FakeSocket();
      sockets.push(opened);
      return opened;
    },
    now: () => Date.now(),
    random: () => 0.999_999,
    newId: () => `id-${(ids += 1)}`,
    visible: () => visible,
    watch: (listener) => {
      woken = listener;
      return () => (woken = undefined);
    },
    soon: (callback) => callback(),
    listChanged: () => undefined,
  };
  connection = new SessionConnection(world);
  connection.open();
  await settle();
});

afterEach(() => {
  connection.close();
  vi.useRealTimers();
});

describe("subscribing", () => {
  it("asks for dialect 2 with its token, and is live once the session answers", () => {
    expect(link()).toBe("connecting");
    socket().accept();
    expect(socket().last("subscribe")).toMatchObject({ token: "token-1", dialect: 2 });
    expect(socket().last("subscribe")).not.toHaveProperty("afterRevision");
    expect(link()).toBe("live");
  });

  it("resumes after the revision that it holds, with the same token", async () => {
    socket().accept({ revision: 7 });
    socket().drop();
    await vi.advanceTimersByTimeAsync(500);
    socket().onopen?.();
    expect(socket().last("subscribe")).toMatchObject({ token: "token-1", afterRevision: 7 });
  });

  it.each([
    [404, "NOT_FOUND"],
    [400, "INVALID_PARAMETER"],
  ] as const)("says that a session is missing on %d and stops", async (status, code) => {
    tokens = [new ApiError("Session not found", status, code, undefined)];
    connection.reconnect();
    await settle();
    expect(link()).toBe("missing");
    await vi.advanceTimersByTimeAsync(120_000);
    expect(tokensAsked).toBe(2);
  });

  it("tries again when no token can be had for the moment, and gives up when it is refused", async () => {
    tokens = [new ApiError("Try again", 503, "RETRY", undefined), new ApiError("Not yours", 403, "FORBIDDEN", undefined)];
    connection.reconnect();
    await settle();
    expect(link()).toBe("waiting");
    await vi.advanceTimersByTimeAsync(500);
    expect(connection.read().link).toEqual({ state: "refused", reason: "Not yours" });
  });

  it("gives up on a socket that opens but is never subscribed", async () => {
    socket().onopen?.();
    await vi.advanceTimersByTimeAsync(15_000);
    expect(sockets[0]?.closed).toBe(true);
    expect(link()).toBe("waiting");
  });
});

describe("losing the connection", () => {
  it("tries for ever, ever more rarely, up to every half minute", async () => {
    socket().accept();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 9; attempt += 1) {
      socket().drop(attempt % 2 === 0 ? 1006 : 1001);
      const state = connection.read().link;
      if (state.state !== "waiting") throw new Error(state.state);
      waits.push(state.retryAt - Date.now());
      await vi.advanceTimersByTimeAsync(state.retryAt - Date.now());
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  it("starts counting anew after a connection that held", async () => {
    for (let attempt = 0; attempt < 4; attempt += 1) await dropAndRetry();
    socket().accept();
    await vi.advanceTimersByTimeAsync(5_000);
    socket().drop();
    expect(connection.read().link).toMatchObject({ state: "waiting", retryAt: Date.now() + 500 });
  });

  it("connects at once when the network or the reader comes back", async () => {
    for (let attempt = 0; attempt < 8; attempt += 1) await dropAndRetry();
    socket().drop();
    expect(link()).toBe("waiting");
    const before = sockets.length;
    woken?.();
    await settle();
    expect(sockets.length).toBe(before + 1);
  });

  it("notices a connection that is silently dead", async () => {
    socket().accept();
    await vi.advanceTimersByTimeAsync(25_000);
    expect(socket().last("ping")).toBeDefined();
    socket().receive({ type: "pong" });
    await vi.advanceTimersByTimeAsync(25_000);
    expect(link()).toBe("live");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(link()).toBe("waiting");
    expect(sockets[0]?.closed).toBe(true);
  });

  it("ignores whatever a discarded socket still says", async () => {
    const old = socket();
    const { onmessage, onclose } = old;
    old.accept({ revision: 1 });
    old.drop();
    await vi.advanceTimersByTimeAsync(500);
    socket().accept({ revision: 1 });
    onmessage?.({ data: JSON.stringify({ type: "session_title", title: "late" }) });
    onclose?.({ code: 4001, reason: "late" });
    expect(link()).toBe("live");
  });

  it("stays closed after close", async () => {
    socket().accept();
    const count = sockets.length;
    connection.close();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(sockets.length).toBe(count);
    expect(socket().closed).toBe(true);
  });
});

describe("a token that is refused", () => {
  it.each([4001, 4002])("is renewed once on %d, then the person must act", async (code) => {
    socket().onopen?.();
    socket().drop(code, "Token expired");
    await settle();
    socket().onopen?.();
    expect(socket().last("subscribe")).toMatchObject({ token: "token-2" });
    socket().drop(code, "Token expired");
    await vi.advanceTimersByTimeAsync(120_000);
    expect(connection.read().link).toEqual({ state: "refused", reason: "Token expired" });
    expect(sockets.length).toBe(2);
    connection.reconnect();
    await settle();
    socket().accept();
    expect(link()).toBe("live");
  });
});

describe("falling out of step", () => {
  it("subscribes again when a delta lies beyond what it holds", async () => {
    socket().accept({ revision: 3 });
    socket().receive({ type: "part_delta", messageId: "m", partId: "p", kind: "text", offset: 4, text: "x" });
    await settle();
    expect(sockets.length).toBe(2);
    socket().onopen?.();
    expect(socket().last("subscribe")).toMatchObject({ afterRevision: 3 });
  });

  it("waits when that does not help", async () => {
    const gap: ServerMessage = { type: "part_delta", messageId: "m", partId: "p", kind: "text", offset: 4, text: "x" };
    socket().accept();
    socket().receive(gap);
    await settle();
    socket().accept();
    socket().receive(gap);
    await settle();
    expect(link()).toBe("waiting");
    expect(sockets.length).toBe(2);
  });

  it("survives frames that are no JSON and types that it does not know", () => {
    socket().accept();
    socket().onmessage?.({ data: "{" });
    socket().onmessage?.({ data: new ArrayBuffer(1) });
    socket().receive({ type: "news" } as unknown as ServerMessage);
    expect(link()).toBe("live");
  });
});

describe("sending a prompt", () => {
  const submission = { clientRequestId: "req-1", content: "Fix it" };
  const prompts = () => sockets.flatMap((each) => each.sent.filter((message) => message.type === "prompt"));

  it("is settled by the session's answer", async () => {
    socket().accept();
    const outcome = connection.submit(submission);
    socket().receive({ type: "prompt_queued", clientRequestId: "req-1", messageId: "m1", position: 1 });
    expect(await outcome).toEqual({ ok: true, id: "m1" });
  });

  it("is like answering a question, which the session accepts by its id", async () => {
    socket().accept();
    const outcome = connection.answerQuestion("q1", "Hello");
    const [sent] = sockets.flatMap((each) => each.sent.filter((message) => message.type === "input_response"));
    expect(sent).toMatchObject({ requestId: "q1", answer: "Hello" });
    socket().receive({ type: "input_accepted", clientRequestId: sent?.clientRequestId ?? "", requestId: "q1" });
    expect(await outcome).toEqual({ ok: true, id: "q1" });
  });

  it("waits for the connection, and is repeated under the same id until it is answered", async () => {
    let outcome: Outcome | undefined;
    void connection.submit(submission).then((settled) => (outcome = settled));
    expect(prompts()).toEqual([]);
    socket().accept();
    expect(prompts().length).toBe(1);
    socket().drop();
    await vi.advanceTimersByTimeAsync(500);
    socket().accept();
    expect(prompts().map((message) => message.clientRequestId)).toEqual(["req-1", "req-1"]);
    socket().receive({ type: "prompt_queued", clientRequestId: "req-1", messageId: "m1", position: null });
    await settle();
    expect(outcome).toEqual({ ok: true, id: "m1" });
    socket().drop();
    await vi.advanceTimersByTimeAsync(500);
    socket().accept();
    expect(prompts().length).toBe(2);
  });

  it("reaches a session that does not answer anew", async () => {
    socket().accept();
    void connection.submit(submission);
    await vi.advanceTimersByTimeAsync(15_000);
    await vi.advanceTimersByTimeAsync(500);
    socket().accept();
    expect(prompts().length).toBe(2);
  });

  it("reports a refusal in the session's words", async () => {
    socket().accept();
    const outcome = connection.submit(submission);
    socket().receive({ type: "error", code: "PROMPT_QUEUE_FULL", message: "Ten prompts wait already", clientRequestId: "req-1" });
    expect(await outcome).toEqual({ ok: false, code: "PROMPT_QUEUE_FULL", reason: "Ten prompts wait already" });
  });

  it("can be withdrawn while it waits", async () => {
    const outcome = connection.submit(submission);
    connection.withdraw("req-1");
    expect(await outcome).toMatchObject({ ok: false, code: "WITHDRAWN" });
    socket().accept();
    expect(prompts()).toEqual([]);
  });
});

describe("moving a prompt that waits", () => {
  const queue = (running: string[], pending: string[]) => {
    const prompt = (status: "processing" | "pending") => (messageId: string) => ({ messageId, content: messageId, status });
    socket().receive({ type: "prompt_queue_updated", promptQueue: [...running.map(prompt("processing")), ...pending.map(prompt("pending"))] });
  };
  const order = () => socket().last("reorder_prompts")?.messageIds;

  it("names all that wait, also the one that starts first", async () => {
    socket().accept();
    queue([], ["m1", "m2", "m3", "m4"]);
    const outcome = connection.moveBefore("m3", "m2");
    expect(order()).toEqual(["m1", "m3", "m2", "m4"]);
    socket().receive({ type: "prompts_reordered", clientRequestId: socket().last("reorder_prompts")?.clientRequestId ?? "" });
    expect(await outcome).toEqual({ ok: true, id: "" });
  });

  it("leaves out the one that runs", () => {
    socket().accept();
    queue(["m1"], ["m2", "m3", "m4"]);
    void connection.moveBefore("m4", "m2");
    expect(order()).toEqual(["m4", "m2", "m3"]);
  });

  it("changes nothing when the other one has begun to run", () => {
    socket().accept();
    queue(["m1"], ["m2", "m3"]);
    void connection.moveBefore("m2", "m1");
    expect(order()).toEqual(["m2", "m3"]);
  });
});

describe("being there", () => {
  it("tells when the page is left and looked at again", () => {
    socket().accept();
    expect(socket().last("presence")).toBeUndefined();
    visible = false;
    woken?.();
    expect(socket().last("presence")).toEqual({ type: "presence", status: "idle" });
    visible = true;
    woken?.();
    expect(socket().last("presence")).toEqual({ type: "presence", status: "active" });
  });

  it("tells at once when it connects unseen", () => {
    visible = false;
    socket().accept();
    expect(socket().last("presence")).toEqual({ type: "presence", status: "idle" });
  });

  it("says at most every three seconds that somebody types, and forgets others after six", async () => {
    socket().accept();
    connection.typing();
    connection.typing();
    expect(socket().sent.filter((message) => message.type === "typing").length).toBe(1);
    socket().receive({ type: "typing", participantId: "other", name: "Grace" });
    expect(connection.read().session.typing.size).toBe(1);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(connection.read().session.typing.size).toBe(0);
  });
});
