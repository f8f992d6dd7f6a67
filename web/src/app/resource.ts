import { useCallback, useEffect, useState } from "react";
import { get, sentenceOf } from "./api";

export type Resource<T> =
  | { state: "loading" }
  | { state: "ready"; value: T }
  | { state: "failed"; reason: string; retry: () => void };

/** Reads a route once for as long as the component is shown; the answer is kept for the next one that asks. */
const answers = new Map<string, unknown>();

export function useResource<T>(path: `/api/${string}`): Resource<T> {
  const [attempt, setAttempt] = useState(0);
  const [result, setResult] = useState<{ path: string; value?: T; reason?: string }>(() =>
    answers.has(path) ? { path, value: answers.get(path) as T } : { path },
  );
  useEffect(() => {
    const controller = new AbortController();
    get<T>(path, { signal: controller.signal })
      .then((value) => {
        answers.set(path, value);
        setResult({ path, value });
      })
      .catch((error: unknown) => {
        if (!controller.signal.aborted) setResult((held) => (held.value === undefined ? { path, reason: sentenceOf(error) } : held));
      });
    return () => controller.abort();
  }, [path, attempt]);
  const retry = useCallback(() => {
    setResult({ path });
    setAttempt((number) => number + 1);
  }, [path]);
  if (result.path !== path) return { state: "loading" };
  if (result.value !== undefined) return { state: "ready", value: result.value };
  if (result.reason !== undefined) return { state: "failed", reason: result.reason, retry };
  return { state: "loading" };
}
