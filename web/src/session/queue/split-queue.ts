import type { QueuedPrompt } from "../../protocol.generated";
import type { Row } from "../timeline/timeline";

/**
 * Where each unfinished prompt is shown. The one that runs is in the timeline; when none runs, the first that waits for its sandbox is
 * shown there too; the others wait in the queue.
 */
export function splitQueue(
  queue: readonly QueuedPrompt[],
  rows: readonly Row[],
  processing: boolean,
): { first: QueuedPrompt | undefined; waiting: readonly QueuedPrompt[] } {
  const told = new Set(rows.flatMap(({ event }) => (event.type === "user_message" ? [event.messageId] : [])));
  const untold = queue.filter((prompt) => !told.has(prompt.messageId));
  const started = untold.find((prompt) => prompt.status === "processing");
  const pending = untold.filter((prompt) => prompt.status === "pending");
  if (started !== undefined) return { first: started, waiting: pending };
  const running = processing || queue.some((prompt) => prompt.status === "processing");
  return running ? { first: undefined, waiting: pending } : { first: pending[0], waiting: pending.slice(1) };
}
