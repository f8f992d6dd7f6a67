import type { SessionArtifact } from "../protocol.generated";

export type PullRequestState = "open" | "draft" | "merged" | "closed";

/** A pull request as far as its artifact tells. */
export interface PullRequest {
  id: string;
  url: string | undefined;
  number: number | undefined;
  title: string | undefined;
  state: PullRequestState;
  head: string | undefined;
  base: string | undefined;
  repository: string | undefined;
}

/** Reads an artifact's metadata, of which any field may be missing or of another type. */
export function readPullRequest(id: string, url: string | null, metadata: Record<string, unknown>): PullRequest {
  const text = (name: string) => {
    const value = metadata[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const number = metadata["number"];
  const [owner, name] = [text("repoOwner"), text("repoName")];
  return {
    id,
    url: safeUrl(url),
    number: typeof number === "number" ? number : undefined,
    title: text("title"),
    state: stateOf(text("state") ?? text("lifecycleState"), metadata["draft"] === true || metadata["isDraft"] === true),
    head: text("head"),
    base: text("base"),
    repository: owner === undefined || name === undefined ? undefined : `${owner}/${name}`,
  };
}

/** The pull requests among the artifacts, oldest first. */
export function pullRequestsOf(artifacts: readonly SessionArtifact[]): PullRequest[] {
  return artifacts
    .filter((artifact) => artifact.type === "pr")
    .map((artifact) => readPullRequest(artifact.id, artifact.url, artifact.metadata ?? {}))
    .reverse();
}

function stateOf(state: string | undefined, draft: boolean): PullRequestState {
  if (state === "merged" || state === "closed") return state;
  return draft || state === "draft" ? "draft" : "open";
}

/** A link that may be followed: https, or http on this machine. */
export function safeUrl(url: string | null | undefined): string | undefined {
  if (url === null || url === undefined) return undefined;
  try {
    const { protocol, hostname } = new URL(url);
    const local = /^(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\]|.+\.localhost)$/.test(hostname);
    return protocol === "https:" || (protocol === "http:" && local) ? url : undefined;
  } catch {
    return undefined;
  }
}
