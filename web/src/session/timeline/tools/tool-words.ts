import type { ToolCall } from "../../../protocol.generated";
import { baseName, count } from "../../../design/words";

export type ToolKind =
  | "read"
  | "edit"
  | "command"
  | "search"
  | "list"
  | "web"
  | "todo"
  | "task"
  | "pull-request"
  | "other";

export type ToolState = "running" | "done" | "failed" | "interrupted";

/** How a tool call is told in one line: `Edited` `server.js`, with the full path as a hint. */
export interface ToolWords {
  kind: ToolKind;
  verb: string;
  /** What it is about; in code letters unless `prose`. */
  subject: string;
  prose: boolean;
  /** The subject in full, when it was shortened. */
  full: string | undefined;
}

type Verbs = readonly [running: string, done: string];

const VERBS: Record<Exclude<ToolKind, "other">, Verbs> = {
  read: ["Reading", "Read"],
  edit: ["Editing", "Edited"],
  command: ["Running", "Ran"],
  search: ["Searching", "Searched"],
  list: ["Listing", "Listed"],
  web: ["Fetching", "Fetched"],
  todo: ["Planning", "Planned"],
  task: ["Delegating", "Delegated"],
  "pull-request": ["Opening pull request", "Opened pull request"],
};

const KINDS: Record<string, Exclude<ToolKind, "other">> = {
  read: "read",
  edit: "edit",
  multiedit: "edit",
  write: "edit",
  patch: "edit",
  apply_patch: "edit",
  bash: "command",
  shell: "command",
  grep: "search",
  websearch: "search",
  codesearch: "search",
  glob: "list",
  list: "list",
  ls: "list",
  webfetch: "web",
  todowrite: "todo",
  todoread: "todo",
  task: "task",
  "create-pull-request": "pull-request",
  create_pull_request: "pull-request",
};

/** A tool's own name without that of the server which offers it: `oi_create-pull-request` is `create-pull-request`. */
function ownName(tool: string): string {
  return tool.toLowerCase().replace(/^(?:mcp__)?(?:oi|open[-_]inspect)_+/, "");
}

export function kindOf(tool: string): ToolKind {
  return KINDS[ownName(tool)] ?? "other";
}

/** An argument, when it is a text that is not blank. */
export function textArgument(call: ToolCall, ...names: string[]): string | undefined {
  for (const name of names) {
    const value = call.args[name];
    if (typeof value === "string" && value.trim() !== "") return value;
  }
  return undefined;
}

export function pathOf(call: ToolCall): string | undefined {
  return call.fileChange?.path ?? textArgument(call, "filePath", "file_path", "path");
}

/** The state of a call; one that still ran when its turn ended was interrupted. */
export function stateOf(call: ToolCall, turnEnded: boolean): ToolState {
  if (call.status === "error" || (call.error ?? "") !== "") return "failed";
  if (call.status === "completed" || (call.status === undefined && call.output !== undefined)) {
    return (call.exitCode ?? 0) === 0 ? "done" : "failed";
  }
  return turnEnded ? "interrupted" : "running";
}

export function toolWords(call: ToolCall, state: ToolState): ToolWords {
  const kind = kindOf(call.tool);
  const running = state === "running" || state === "interrupted";
  if (kind === "other") {
    const argument = Object.values(call.args).find((value): value is string => typeof value === "string" && value !== "");
    return { kind, verb: plainName(call.tool), ...line(argument ?? "", false) };
  }
  const verb = verbOf(kind, call, running);
  switch (kind) {
    case "read":
    case "edit":
      return { kind, verb, ...fileSubject(call) };
    case "command":
      return { kind, verb, ...line(textArgument(call, "command", "cmd") ?? "a command", false) };
    case "search": {
      const query = textArgument(call, "pattern", "query");
      return { kind, verb, ...line(query === undefined ? "the code" : `“${query}”`, false) };
    }
    case "list":
      return { kind, verb, ...line(textArgument(call, "pattern", "path") ?? "files", false) };
    case "web":
      return { kind, verb, ...line(textArgument(call, "url") ?? "a page", false) };
    case "todo": {
      const todos = call.args["todos"];
      return { kind, verb, ...line(Array.isArray(todos) ? count(todos.length, "step") : "the work", true) };
    }
    case "task":
      return { kind, verb, ...line(textArgument(call, "description", "prompt") ?? "a task", true) };
    case "pull-request":
      return { kind, verb, ...line(textArgument(call, "title") ?? "", true) };
  }
}

function verbOf(kind: Exclude<ToolKind, "other">, call: ToolCall, running: boolean): string {
  const verbs: Verbs = ownName(call.tool) === "write" ? ["Writing", "Wrote"] : VERBS[kind];
  return verbs[running ? 0 : 1];
}

function fileSubject(call: ToolCall): Pick<ToolWords, "subject" | "prose" | "full"> {
  const path = pathOf(call);
  if (path !== undefined) return { subject: baseName(path), prose: false, full: path };
  const files = patchedFiles(textArgument(call, "patchText", "patch") ?? "");
  const [only] = files;
  if (files.length === 1 && only !== undefined) return { subject: baseName(only), prose: false, full: only };
  return { subject: files.length === 0 ? "a file" : count(files.length, "file"), prose: true, full: files.join("\n") || undefined };
}

/** Paths that a patch in the `*** Update File:` form names. */
export function patchedFiles(patch: string): string[] {
  return [...patch.matchAll(/^\*\*\* (?:Add|Update|Delete) File: (.+)$/gm)].map((match) => (match[1] ?? "").trim());
}

function line(text: string, prose: boolean): Pick<ToolWords, "subject" | "prose" | "full"> {
  const [first = ""] = text.trim().split("\n");
  return { subject: first, prose, full: first === text.trim() ? undefined : text.trim() };
}

/** `oi_spawn-task` and `some_tool` as words. */
function plainName(tool: string): string {
  const words = ownName(tool).replace(/[-_]+/g, " ").trim();
  return words === "" ? tool : words.charAt(0).toLocaleUpperCase() + words.slice(1);
}
