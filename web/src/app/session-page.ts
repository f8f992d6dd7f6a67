import { lazy } from "react";

const load = () => import("../session/SessionPage");

/** The session view, with what only it needs, in a file of its own. */
export const SessionPage = lazy(load);

/** Fetches that file before it is needed. */
export function prepareSessionPage(): void {
  void load();
}
