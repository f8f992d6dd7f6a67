import type { ErrorBody, ErrorCode } from "../protocol.generated";

/** A call that was refused or could not be made. `message` is a sentence for people. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Stable code of the refusal, when the answer named one. */
    readonly code: ErrorCode | undefined,
    /** Finds the request in the logs. */
    readonly requestId: string | undefined,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** Whether the same call may succeed later: no answer, too many, or a fault of the server. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

type Path = `/api/${string}`;

interface CallOptions {
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

const DEADLINE_MS = 20_000;

const signedOutListeners = new Set<() => void>();

/** Calls `listener` whenever the server says that nobody is signed in. */
export function onSignedOut(listener: () => void): () => void {
  signedOutListeners.add(listener);
  return () => signedOutListeners.delete(listener);
}

function isErrorBody(body: unknown): body is ErrorBody {
  return typeof body === "object" && body !== null && "error" in body && typeof body.error === "string";
}

async function refusal(response: Response): Promise<ApiError> {
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    body = undefined;
  }
  const requestId = response.headers.get("x-request-id") ?? undefined;
  if (isErrorBody(body)) {
    return new ApiError(body.error, response.status, body.code, body.requestId ?? requestId);
  }
  return new ApiError(`The server answered with an error (${response.status}).`, response.status, undefined, requestId);
}

async function call(method: string, path: Path, body: unknown, options: CallOptions): Promise<unknown> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      mode: "same-origin",
      credentials: "same-origin",
      cache: "no-store",
      signal,
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    if (options.signal?.aborted === true) throw error;
    const sentence = deadline.aborted
      ? "The server took too long to answer. Try again."
      : "The server could not be reached. Check your connection and try again.";
    throw new ApiError(sentence, 0, undefined, undefined);
  }
  if (response.status === 401 && !path.startsWith("/api/auth/")) for (const listener of signedOutListeners) listener();
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return undefined;
  try {
    return await response.json();
  } catch {
    throw new ApiError("The server's answer could not be read. Try again.", response.status, undefined, undefined);
  }
}

/** Reads. The caller names the type that the wire's definition gives the route. */
export async function get<Answer>(path: Path, options: CallOptions = {}): Promise<Answer> {
  return (await call("GET", path, undefined, options)) as Answer;
}

/** Changes something. */
export async function post<Answer>(path: Path, body: unknown, options: CallOptions = {}): Promise<Answer> {
  return (await call("POST", path, body, options)) as Answer;
}

/** The address of a WebSocket of this origin. */
export function socketUrl(path: `/${string}`): string {
  const { protocol, host } = window.location;
  return `${protocol === "https:" ? "wss" : "ws"}://${host}${path}`;
}

/** What to tell a person about an error of any kind. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error && error.message !== "" ? error.message : "Something went wrong. Try again.";
}
