import type {
  Author,
  Presence,
  QueuedPrompt,
  ServerMessage,
  SessionArtifact,
  SessionInfo,
} from "../../protocol.generated";
import { applyDelta, applyDone, applyEvent, applyHistory, applySubscribed, EMPTY_TIMELINE, type Timeline } from "../timeline/timeline";

/** All that a page knows of one session. It changes only by `reduce`, from what the session sends. */
export interface SessionState {
  /** `undefined` until the session first answered. */
  readonly session: SessionInfo | undefined;
  /** Who this page belongs to. */
  readonly me: Author | undefined;
  /** Newest first. */
  readonly artifacts: readonly SessionArtifact[];
  readonly timeline: Timeline;
  /** Waiting and running prompts, in order. */
  readonly queue: readonly QueuedPrompt[];
  /** One entry a person. */
  readonly presence: readonly Presence[];
  /** People who type, by participant, and until when that is shown (ms). */
  readonly typing: ReadonlyMap<string, { name: string; until: number }>;
  /** Why the sandbox did not start or was lost. */
  readonly sandboxError: string | undefined;
  /** The newest thing about the sandbox that people should know. */
  readonly sandboxWarning: string | undefined;
  /** How often how the sandbox is reached has changed, as far as this page was told. */
  readonly accessChanges: number;
}

export const EMPTY_SESSION: SessionState = {
  session: undefined,
  me: undefined,
  artifacts: [],
  timeline: EMPTY_TIMELINE,
  queue: [],
  presence: [],
  typing: new Map(),
  sandboxError: undefined,
  sandboxWarning: undefined,
  accessChanges: 0,
};

/** How long a person counts as typing after they were last heard to, in ms. */
export const TYPING_SHOWN_MS = 6_000;

export interface Reduced {
  readonly state: SessionState;
  /** Something was missed: subscribe again. */
  readonly missed: boolean;
}

/** The state after a message, at `now` (ms). Messages that it does not know change nothing. */
export function reduce(state: SessionState, message: ServerMessage, now: number): Reduced {
  switch (message.type) {
    case "subscribed":
      return settled({
        ...state,
        session: message.session,
        me: message.participant,
        artifacts: message.artifacts,
        timeline: applySubscribed(state.timeline, message),
        queue: message.promptQueue,
        sandboxError: message.spawnError ?? undefined,
        sandboxWarning: undefined,
        typing: new Map(),
      });
    case "batch": {
      let missed = false;
      let current = state;
      for (const each of message.messages) {
        const reduced = reduce(current, each, now);
        current = reduced.state;
        missed ||= reduced.missed;
      }
      return { state: current, missed };
    }
    case "part_delta":
      return withTimeline(state, applyDelta(state.timeline, message));
    case "part_done":
      return withTimeline(state, applyDone(state.timeline, message));
    case "sandbox_event":
      return applySandboxEvent(state, message);
    case "history_page":
      return settled({ ...state, timeline: applyHistory(state.timeline, message) });
    case "prompt_queue_updated":
      return settled({ ...state, queue: message.promptQueue });
    case "presence_sync":
    case "presence_update":
      return settled({ ...state, presence: message.participants });
    case "presence_leave":
      return settled({ ...state, presence: state.presence.filter((person) => person.userId !== message.userId) });
    case "typing": {
      if (message.participantId === state.me?.participantId) return settled(state);
      const typing = new Map(state.typing);
      typing.set(message.participantId, { name: message.name, until: now + TYPING_SHOWN_MS });
      return settled({ ...state, typing });
    }
    case "sandbox_warming":
      return settled(withSandboxStatus(state, "warming"));
    case "sandbox_spawning":
      return settled(withSandboxStatus(state, "spawning"));
    case "sandbox_status":
      return settled(withSandboxStatus(state, message.status));
    case "sandbox_error":
      return settled({ ...withSandboxStatus(state, "failed"), sandboxError: message.error });
    case "sandbox_warning":
      return settled({ ...state, sandboxWarning: message.message });
    case "sandbox_access_changed":
      return settled({ ...state, accessChanges: state.accessChanges + 1 });
    case "tunnel_urls":
      return settled(withSession(state, (session) => ({ ...session, tunnelUrls: message.urls })));
    case "artifact_created":
    case "artifact_updated":
      return settled({ ...state, artifacts: withArtifact(state.artifacts, message.artifact) });
    case "session_branch":
      return settled(
        withSession(state, (session) => {
          const repositories = session.repositories.map((repository) =>
            isRepository(repository, message, session.repositories.length === 1)
              ? { ...repository, branchName: message.branchName }
              : repository,
          );
          const primary = repositories.find((repository) => repository.position === 0);
          const branchName = primary === undefined ? message.branchName : (primary.branchName ?? session.branchName);
          return { ...session, repositories, branchName };
        }),
      );
    case "session_status":
      return settled(withSession(state, (session) => ({ ...session, status: message.status })));
    case "session_title":
      return settled(withSession(state, (session) => ({ ...session, title: message.title || session.title })));
    case "processing_status":
      return settled(withSession(state, (session) => ({ ...session, isProcessing: message.isProcessing })));
    default:
      // Answers to one request are the connection's business; types of a newer server are nobody's.
      return settled(state);
  }
}

function settled(state: SessionState): Reduced {
  return { state, missed: false };
}

function withTimeline(state: SessionState, applied: { timeline: Timeline; missed: boolean }): Reduced {
  return { state: { ...state, timeline: applied.timeline }, missed: applied.missed };
}

function withSession(state: SessionState, change: (session: SessionInfo) => SessionInfo): SessionState {
  return state.session === undefined ? state : { ...state, session: change(state.session) };
}

/** Statuses of a sandbox that nobody reaches. */
const GONE: ReadonlySet<SessionInfo["sandboxStatus"]> = new Set(["spawning", "stale", "stopped", "failed"]);
const NO_ACCESS = { codeServerUrl: null, vncUrl: null, ttydUrl: null, tunnelUrls: null } as const;

function withSandboxStatus(state: SessionState, sandboxStatus: SessionInfo["sandboxStatus"]): SessionState {
  // With the sandbox goes how it is reached.
  const gone = GONE.has(sandboxStatus) ? NO_ACCESS : undefined;
  const changed = withSession(state, (session) => ({ ...session, sandboxStatus, ...gone }));
  return sandboxStatus === "failed" ? changed : { ...changed, sandboxError: undefined };
}

function withArtifact(artifacts: readonly SessionArtifact[], artifact: SessionArtifact): readonly SessionArtifact[] {
  const index = artifacts.findIndex((held) => held.id === artifact.id);
  return index === -1 ? [artifact, ...artifacts] : artifacts.with(index, artifact);
}

function isRepository(
  repository: { repoOwner: string; repoName: string },
  named: { repoOwner?: string; repoName?: string },
  only: boolean,
): boolean {
  if (named.repoOwner === undefined || named.repoName === undefined) return only;
  return (
    repository.repoOwner.toLowerCase() === named.repoOwner.toLowerCase() &&
    repository.repoName.toLowerCase() === named.repoName.toLowerCase()
  );
}

function applySandboxEvent(state: SessionState, message: Extract<ServerMessage, { type: "sandbox_event" }>): Reduced {
  const reduced = withTimeline(state, applyEvent(state.timeline, message));
  const { event } = message;
  switch (event.type) {
    case "step_finish": {
      const cost = event.cost ?? 0;
      if (!Number.isFinite(cost) || cost <= 0) return reduced;
      return {
        ...reduced,
        state: withSession(reduced.state, (session) => ({ ...session, totalCost: session.totalCost + cost })),
      };
    }
    case "user_message": {
      const author = event.author?.participantId;
      if (author === undefined || !reduced.state.typing.has(author)) return reduced;
      const typing = new Map(reduced.state.typing);
      typing.delete(author);
      return { ...reduced, state: { ...reduced.state, typing } };
    }
    default:
      return reduced;
  }
}
