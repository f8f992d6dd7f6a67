import { lazy } from "react";

const load = () => import("./TerminalPanel");

/** The terminal, with what only it needs, in a file of its own. */
export const TerminalPanel = lazy(load);

/** Fetches that file before it is needed. */
export function prepareTerminal(): void {
  void load();
}
