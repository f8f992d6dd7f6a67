import { beforeEach, describe, expect, it, vi } from "vitest";
import { EMPTY_DRAFT, recallDraft, rememberDraft, tryDraft } from "./draft";

const kept = new Map<string, string>();

beforeEach(() => {
  kept.clear();
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
    removeItem: (key: string) => kept.delete(key),
  });
});

describe("an unsent prompt", () => {
  it("goes under one id as long as its words are the same, and under a new one when they change", () => {
    let ids = 0;
    const newId = () => `id-${(ids += 1)}`;
    const first = tryDraft({ ...EMPTY_DRAFT, text: "Fix it " }, newId);
    expect(first).toMatchObject({ requestId: "id-1", tried: "Fix it" });
    expect(tryDraft({ ...first, text: "Fix it" }, newId).requestId).toBe("id-1");
    expect(tryDraft({ ...first, text: "Fix it now" }, newId).requestId).toBe("id-2");
  });

  it("survives a reload of the page with its id", () => {
    const draft = tryDraft({ ...EMPTY_DRAFT, text: "Fix it" }, () => "id-1");
    rememberDraft("s1", draft);
    expect(recallDraft("s1")).toEqual(draft);
    expect(recallDraft("s2")).toEqual(EMPTY_DRAFT);
    rememberDraft("s1", EMPTY_DRAFT);
    expect(kept.size).toBe(0);
  });

  it("is empty when what was kept cannot be read", () => {
    for (const text of ["{", "null", "7", '{"text":1}']) {
      kept.set("open-inspect.draft.s1", text);
      expect(recallDraft("s1")).toEqual(EMPTY_DRAFT);
    }
  });
});
