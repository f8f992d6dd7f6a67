import { describe, expect, it } from "vitest";
import { pullRequestsOf, readPullRequest, safeUrl } from "./pull-request";

describe("pull requests", () => {
  it("are read from metadata of which anything may be missing", () => {
    expect(readPullRequest("a", null, { number: "7", title: 3 })).toMatchObject({ number: undefined, title: undefined, state: "open" });
    expect(
      readPullRequest("a", "https://forge.example/acme/app/pull/7", {
        number: 7, title: "Fix", state: "open", draft: true, head: "fix", base: "main", repoOwner: "acme", repoName: "app",
      }),
    ).toMatchObject({ number: 7, state: "draft", repository: "acme/app", url: "https://forge.example/acme/app/pull/7" });
    expect(readPullRequest("a", null, { lifecycleState: "merged", isDraft: true }).state).toBe("merged");
  });

  it("are listed oldest first", () => {
    const artifact = (id: string, type: "pr" | "branch") => ({ id, type, url: null, metadata: null, createdAt: 0 });
    expect(pullRequestsOf([artifact("c", "pr"), artifact("b", "branch"), artifact("a", "pr")]).map((each) => each.id)).toEqual(["a", "c"]);
  });

  it.each([
    ["https://example.com/x", true],
    ["http://127.0.0.1:8788/acme/app/pull/1", true],
    ["http://app.localhost/x", true],
    ["http://example.com", false],
    ["javascript:alert(1)", false],
    ["not a url", false],
    [null, false],
  ])("link to %s: %s", (url, allowed) => {
    expect(safeUrl(url) !== undefined).toBe(allowed);
  });
});
