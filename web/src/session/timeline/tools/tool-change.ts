import type { ToolCall } from "../../../protocol.generated";
import { countLines, lineDiff, patchLines, type DiffLine } from "./line-diff";
import { textArgument } from "./tool-words";

/** The change that an edit asks for, from its arguments; `undefined` when they do not tell. */
export function diffOf(call: ToolCall): DiffLine[] | undefined {
  const patch = textArgument(call, "patchText", "patch");
  if (patch !== undefined) return patchLines(patch);
  const after = call.args["newString"] ?? call.args["new_string"];
  if (typeof after === "string") {
    const before = call.args["oldString"] ?? call.args["old_string"];
    return lineDiff(typeof before === "string" ? before : "", after);
  }
  const content = call.args["content"];
  return typeof content === "string" ? lineDiff("", content) : undefined;
}

/** Lines that an edit added and removed: as the sandbox counted, else as its arguments say. */
export function changeOf(call: ToolCall): { added: number; removed: number } | undefined {
  if (call.fileChange !== undefined) return call.fileChange;
  const lines = diffOf(call);
  return lines === undefined ? undefined : countLines(lines);
}
