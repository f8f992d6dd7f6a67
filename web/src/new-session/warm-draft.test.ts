import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WarmDraft, type Target } from "./warm-draft";

const app: Target = { repoOwner: "acme", repoName: "app", branch: undefined, model: "a/one", reasoningEffort: undefined };
const other: Target = { ...app, model: "a/two" };

let created: { target: Target; answer: (id: string) => void; fail: (error: Error) => void; signal: AbortSignal }[];
let abandoned: string[];
let states: string[];
let draft: WarmDraft;

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  created = [];
  abandoned = [];
  states = [];
  draft = new WarmDraft(
    (target, signal) => new Promise((answer, fail) => created.push({ target, answer, fail, signal })),
    (session) => abandoned.push(session),
    (state) => states.push(state),
  );
});

afterEach(() => vi.useRealTimers());

describe("warming while typing", () => {
  it("creates one session, however much is typed", async () => {
    for (let key = 0; key < 20; key += 1) {
      draft.want({ ...app });
      await settle(100);
    }
    await settle(1000);
    draft.want({ ...app });
    await settle(1000);
    expect(created.length).toBe(1);
    created[0]?.answer("s1");
    await settle();
    expect(states).toEqual(["warming", "warm"]);
  });

  it("sends the prompt to the session that was warmed", async () => {
    draft.want(app);
    await settle(500);
    const taken = draft.take({ ...app });
    created[0]?.answer("s1");
    expect(await taken).toBe("s1");
    draft.consume();
    draft.drop();
    await settle();
    expect(abandoned).toEqual([]);
  });

  it("creates at once when the prompt is sent before it settled", async () => {
    draft.want(app);
    const taken = draft.take(app);
    expect(created.length).toBe(1);
    created[0]?.answer("s1");
    expect(await taken).toBe("s1");
    await settle(1000);
    expect(created.length).toBe(1);
  });

  it("abandons the session of another target, created or still being created", async () => {
    draft.want(app);
    await settle(500);
    created[0]?.answer("s1");
    await settle();
    draft.want(other);
    await settle(500);
    expect(abandoned).toEqual(["s1"]);
    expect(created[1]?.target).toEqual(other);
    draft.want(app);
    expect(created[1]?.signal.aborted).toBe(true);
    created[1]?.answer("s2");
    await settle(500);
    expect(abandoned).toEqual(["s1", "s2"]);
  });

  it("abandons what was not used when the page is left", async () => {
    draft.want(app);
    await settle(500);
    created[0]?.answer("s1");
    await settle();
    draft.drop();
    await settle();
    expect(abandoned).toEqual(["s1"]);
    expect(states.at(-1)).toBe("none");
  });

  it("keeps quiet when warming fails, and tries again when the prompt is sent", async () => {
    draft.want(app);
    await settle(500);
    created[0]?.fail(new Error("no room"));
    await settle();
    const taken = draft.take(app);
    created[1]?.fail(new Error("still no room"));
    await expect(taken).rejects.toThrow("still no room");
    const again = draft.take(app);
    created[2]?.answer("s3");
    expect(await again).toBe("s3");
  });
});
