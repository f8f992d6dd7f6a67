import { describe, expect, it } from "vitest";
import type { Author, ServerMessage, SessionArtifact, SessionInfo } from "../../protocol.generated";
import { EMPTY_SESSION, reduce, type SessionState } from "./session-state";

const ada: Author = { participantId: "p-ada", userId: "u-ada", name: "Ada Lovelace" };

const session: SessionInfo = {
  id: "s1",
  title: null,
  repoOwner: "acme",
  repoName: "app",
  baseBranch: "main",
  branchName: null,
  status: "active",
  sandboxStatus: "pending",
  messageCount: 0,
  createdAt: 0,
  model: "demo/scripted",
  isProcessing: false,
  parentSessionId: null,
  totalCost: 1,
  codeServerUrl: null,
  vncUrl: null,
  tunnelUrls: null,
  ttydUrl: null,
  sandboxDashboardUrl: null,
  repositories: [
    { position: 0, repoOwner: "acme", repoName: "app", repoId: 1, baseBranch: "main", branchName: null, baseSha: null, currentSha: null, prUrl: null },
    { position: 1, repoOwner: "acme", repoName: "lib", repoId: 2, baseBranch: "main", branchName: null, baseSha: null, currentSha: null, prUrl: null },
  ],
  environmentId: null,
  environmentName: null,
};

const subscribed: ServerMessage = {
  type: "subscribed",
  dialect: 2,
  participantId: ada.participantId,
  participant: ada,
  session,
  artifacts: [],
  promptQueue: [],
  spawnError: null,
  openParts: [],
  revision: 0,
  timeline: { mode: "snapshot", events: [], hasMore: false, cursor: null },
};

function after(...messages: ServerMessage[]): SessionState {
  return messages.reduce((state, message) => reduce(state, message, 1_000).state, reduce(EMPTY_SESSION, subscribed, 0).state);
}

describe("the state of a session", () => {
  it("knows how the sandbox is reached until the sandbox goes", () => {
    const up = after({ type: "sandbox_access_changed" }, { type: "tunnel_urls", urls: { "3000": "https://t.example" } });
    expect([up.accessChanges, up.session?.tunnelUrls]).toEqual([1, { "3000": "https://t.example" }]);
    const gone = reduce(up, { type: "sandbox_status", status: "stopped" }, 0).state;
    expect([gone.session?.tunnelUrls, gone.session?.codeServerUrl]).toEqual([null, null]);
    expect(reduce(up, { type: "sandbox_status", status: "snapshotting" }, 0).state.session?.tunnelUrls).not.toBeNull();
  });

  it("applies every message of a batch, in order, and reports what one of them missed", () => {
    const start = after();
    const { state, missed } = reduce(
      start,
      {
        type: "batch",
        messages: [
          { type: "part_delta", messageId: "m", partId: "a", kind: "reasoning", offset: 0, text: "Hm" },
          { type: "part_delta", messageId: "m", partId: "b", kind: "text", offset: 4, text: "?" },
          { type: "processing_status", isProcessing: true },
        ],
      },
      0,
    );
    expect(missed).toBe(true);
    expect(state.timeline.openParts.map((part) => part.text)).toEqual(["Hm"]);
    expect(state.session?.isProcessing).toBe(true);
  });

  it("ignores types that it does not know", () => {
    const state = after();
    expect(reduce(state, { type: "from_the_future" } as unknown as ServerMessage, 0)).toEqual({ state, missed: false });
  });

  it("adds the cost of each step", () => {
    const step = (cost: number): ServerMessage => ({
      type: "sandbox_event",
      event: { type: "step_finish", messageId: "m", cost, sandboxId: "s", timestamp: 0 },
    });
    expect(after(step(0.25), step(-3), step(0.5)).session?.totalCost).toBe(1.75);
  });

  it("keeps one copy of an artifact, the newest first", () => {
    const artifact = (id: string, state: string): SessionArtifact => ({ id, type: "pr", url: null, metadata: { state }, createdAt: 0 });
    const state = after(
      { type: "artifact_created", artifact: artifact("a", "open") },
      { type: "artifact_created", artifact: artifact("b", "open") },
      { type: "artifact_updated", artifact: artifact("a", "merged") },
    );
    expect(state.artifacts.map(({ id, metadata }) => [id, metadata?.["state"]])).toEqual([
      ["b", "open"],
      ["a", "merged"],
    ]);
  });

  it("shows others typing, never oneself, until their prompt comes", () => {
    const typing = (participantId: string): ServerMessage => ({ type: "typing", participantId, name: "Grace" });
    expect(after(typing(ada.participantId)).typing.size).toBe(0);
    const others = after(typing("p-grace"));
    expect(others.typing.get("p-grace")).toEqual({ name: "Grace", until: 7_000 });
    const sent = reduce(
      others,
      {
        type: "sandbox_event",
        eventId: "e1",
        timelineSequence: 1,
        revision: 1,
        event: { type: "user_message", messageId: "m", content: "hi", author: { participantId: "p-grace", name: "Grace" }, timestamp: 0 },
      },
      2_000,
    ).state;
    expect(sent.typing.size).toBe(0);
  });

  it("forgets why a sandbox failed when the next attempt starts", () => {
    const failed = after({ type: "sandbox_error", error: "no room" });
    expect(failed).toMatchObject({ sandboxError: "no room", session: { sandboxStatus: "failed" } });
    expect(reduce(failed, { type: "sandbox_status", status: "failed" }, 0).state.sandboxError).toBe("no room");
    expect(reduce(failed, { type: "sandbox_status", status: "spawning" }, 0).state.sandboxError).toBeUndefined();
  });

  it("gives a pushed branch to the repository that it names", () => {
    const state = after({ type: "session_branch", branchName: "fix", repoOwner: "ACME", repoName: "lib" });
    expect(state.session?.repositories.map((repository) => repository.branchName)).toEqual([null, "fix"]);
    expect(state.session?.branchName).toBeNull();
  });

  it("removes a person whose last page closed", () => {
    const person = (userId: string) => ({ participantId: userId, userId, name: userId, status: "active" as const, lastSeen: 0 });
    const state = after(
      { type: "presence_sync", participants: [person("u-ada"), person("u-grace")] },
      { type: "presence_leave", userId: "u-ada" },
    );
    expect(state.presence.map((each) => each.userId)).toEqual(["u-grace"]);
  });
});
