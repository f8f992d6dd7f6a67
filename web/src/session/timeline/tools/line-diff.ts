import { structuredPatch } from "diff";

export interface DiffLine {
  kind: "added" | "removed" | "same" | "gap";
  text: string;
}

/** Lines around a change that are shown with it. */
const CONTEXT = 3;
/** A text with more lines than this is not compared: that would hold up the page. */
const LINES_MAX = 4_000;

/** The changed lines from one text to another, with some that surround them. */
export function lineDiff(before: string, after: string): DiffLine[] {
  if (before === "") return allOf(after, "added");
  if (before.split("\n").length + after.split("\n").length > LINES_MAX) {
    return [...allOf(before, "removed"), ...allOf(after, "added")];
  }
  const { hunks } = structuredPatch("", "", ended(before), ended(after), "", "", { context: CONTEXT });
  return hunks.flatMap((hunk, index) => [
    ...(index === 0 ? [] : [{ kind: "gap", text: "" } as const]),
    ...hunk.lines.filter((line) => !line.startsWith("\\")).map(patchLine),
  ]);
}

/** The lines of a patch, in the unified form or the one of `apply_patch`. */
export function patchLines(patch: string): DiffLine[] {
  return patch
    .split("\n")
    .filter((line) => !/^(?:\*\*\* (?:Begin|End) Patch|diff --git |index |\\ No newline)/.test(line))
    .map((line) => {
      if (/^(?:@@|\*\*\* |--- |\+\+\+ )/.test(line)) return { kind: "gap", text: line.replace(/^\*\*\* /, "") };
      return patchLine(line);
    });
}

export function countLines(lines: readonly DiffLine[]): { added: number; removed: number } {
  return {
    added: lines.filter((line) => line.kind === "added").length,
    removed: lines.filter((line) => line.kind === "removed").length,
  };
}

function patchLine(line: string): DiffLine {
  const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "same";
  return { kind, text: line.slice(1) };
}

function allOf(text: string, kind: "added" | "removed"): DiffLine[] {
  if (text === "") return [];
  return text.replace(/\n$/, "").split("\n").map((line) => ({ kind, text: line }));
}

/** A last line without its end counts as the same line. */
function ended(text: string): string {
  return text.endsWith("\n") ? text : `${text}\n`;
}
