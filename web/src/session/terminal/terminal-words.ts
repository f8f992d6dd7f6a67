import type { TerminalEnd } from "../../protocol.generated";
import type { TerminalState } from "./terminal-connection";

interface Words {
  text: string;
  /** What the button beside it says, when there is something to do. */
  action?: string;
}

const ENDS: Record<TerminalEnd, Words> = {
  no_sandbox: { text: "No sandbox is running. Send a prompt to start one; the terminal opens with it.", action: "Try again" },
  sandbox_ended: { text: "The sandbox has ended. The next prompt starts a new one.", action: "Try again" },
  sandbox_replaced: { text: "Another sandbox has taken its place. Connecting to it.", action: "Connect now" },
  turned_off: { text: "Terminals are turned off for this repository. An admin can turn them on in the sandbox settings." },
  full: { text: "Too many pages watch this sandbox's terminals. Close one of them.", action: "Try again" },
  signed_out: { text: "You were signed out. Sign in again to use the terminal." },
};

/** What is said over a terminal that cannot be used now; nothing while it can. */
export function wordsOf(state: TerminalState): Words | undefined {
  switch (state.at) {
    case "open":
      return undefined;
    case "connecting":
      return { text: "Connecting to the sandbox." };
    case "away":
      return { text: "The sandbox cannot be reached right now. The terminal goes on when it is back." };
    case "lost":
      return { text: "The connection was lost. Trying again.", action: "Try now" };
    case "restarted":
      return { text: "The sandbox restarted, and what ran in this terminal is gone.", action: "Open it anew" };
    case "exited":
      return { text: exited(state.code), action: "Open it anew" };
    case "ended":
      return ENDS[state.reason];
  }
}

function exited(code: number | null): string {
  if (code === null) return "The shell was ended by a signal.";
  return code === 0 ? "The shell has ended." : `The shell has ended with code ${code}.`;
}
