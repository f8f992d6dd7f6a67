import { ApiError, post } from "../app/api";
import type { CreateSessionRequest, CreateSessionResponse, PromptRequest, PromptResponse } from "../protocol.generated";
import type { Target } from "./warm-draft";

const ATTEMPTS = 4;
const PAUSE_MS = 600;

export async function createSession(target: Target, signal: AbortSignal): Promise<string> {
  const request: CreateSessionRequest = {
    repoOwner: target.repoOwner,
    repoName: target.repoName,
    ...(target.branch === undefined ? {} : { branch: target.branch }),
    ...(target.model === undefined ? {} : { model: target.model }),
    ...(target.reasoningEffort === undefined ? {} : { reasoningEffort: target.reasoningEffort }),
  };
  const { sessionId } = await post<CreateSessionResponse>("/api/sessions", request, { signal });
  return sessionId;
}

/** Puts away a session that no prompt was sent to. The server does the same in time, so a failure does not matter. */
export function abandonSession(session: string): void {
  post(`/api/sessions/${encodeURIComponent(session)}/archive`, {}).catch(() => undefined);
}

/** Sends a session's first prompt; again under the same key while the failure may pass, so that it is queued once. */
export async function sendFirstPrompt(session: string, content: string, key: string, target: Target): Promise<void> {
  const request: PromptRequest = {
    content,
    ...(target.model === undefined ? {} : { model: target.model }),
    ...(target.reasoningEffort === undefined ? {} : { reasoningEffort: target.reasoningEffort }),
  };
  for (let attempt = 1; ; attempt += 1) {
    try {
      await post<PromptResponse>(`/api/sessions/${encodeURIComponent(session)}/prompt`, request, {
        headers: { "Idempotency-Key": key },
      });
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || !error.passing || attempt === ATTEMPTS) throw error;
      await new Promise((resume) => setTimeout(resume, PAUSE_MS * attempt));
    }
  }
}
