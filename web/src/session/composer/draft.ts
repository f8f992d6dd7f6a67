import { forget, recall, remember } from "../../app/storage";

/** Words that were not sent yet, and the id under which they were tried. */
export interface Draft {
  text: string;
  /** Set once they were tried: the same words go under the same id, so that they are queued once. */
  requestId: string | undefined;
  /** The words that were tried under `requestId`. */
  tried: string | undefined;
}

export const EMPTY_DRAFT: Draft = { text: "", requestId: undefined, tried: undefined };

export function recallDraft(session: string): Draft {
  const kept = recall(key(session));
  if (kept === undefined) return EMPTY_DRAFT;
  try {
    const value: unknown = JSON.parse(kept);
    if (typeof value !== "object" || value === null || !("text" in value) || typeof value.text !== "string") return EMPTY_DRAFT;
    const requestId = "requestId" in value && typeof value.requestId === "string" ? value.requestId : undefined;
    const tried = "tried" in value && typeof value.tried === "string" ? value.tried : undefined;
    return { text: value.text, requestId, tried };
  } catch {
    return EMPTY_DRAFT;
  }
}

export function rememberDraft(session: string, draft: Draft): void {
  if (draft.text === "") forget(key(session));
  else remember(key(session), JSON.stringify(draft));
}

/** The draft as it is sent: under the id of the last attempt when the words are the same, else under a new one. */
export function tryDraft(draft: Draft, newId: () => string): Draft & { requestId: string; tried: string } {
  const words = draft.text.trim();
  const requestId = draft.requestId !== undefined && draft.tried === words ? draft.requestId : newId();
  return { text: draft.text, requestId, tried: words };
}

function key(session: string): string {
  return `draft.${session}`;
}
