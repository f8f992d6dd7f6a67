import { useSyncExternalStore } from "react";
import { get, onSignedOut, post, sentenceOf } from "./api";
import { forgetPerson } from "./storage";

export interface Person {
  id: string;
  name: string;
  picture: string | undefined;
}

export type Account =
  | { state: "loading" }
  | { state: "signed-in"; person: Person }
  | { state: "signed-out" }
  | { state: "unknown"; reason: string };

interface AuthSession {
  user: { id: string; name?: string | null; email?: string | null; image?: string | null };
}

let account: Account = { state: "loading" };
let asked = false;
const listeners = new Set<() => void>();

function become(next: Account): void {
  account = next;
  for (const listener of listeners) listener();
}

/** Asks the server who is signed in. */
export async function loadAccount(): Promise<void> {
  asked = true;
  if (account.state === "unknown") become({ state: "loading" });
  try {
    const session = await get<AuthSession | null>("/api/auth/get-session");
    if (session === null) {
      become({ state: "signed-out" });
      return;
    }
    const { id, name, email, image } = session.user;
    become({ state: "signed-in", person: { id, name: name ?? email ?? "Somebody", picture: image ?? undefined } });
  } catch (error) {
    become({ state: "unknown", reason: sentenceOf(error) });
  }
}

/** Ends the session at the server, then loads the page anew so that nothing of the person stays in memory. */
export async function signOut(): Promise<void> {
  await post("/api/auth/sign-out", {});
  forgetPerson();
  window.location.assign("/login");
}

onSignedOut(() => become({ state: "signed-out" }));

export function useAccount(): Account {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      if (!asked) void loadAccount();
      return () => listeners.delete(listener);
    },
    () => account,
  );
}
