import type { SandboxAccess, SessionInfo } from "../../protocol.generated";
import { safeUrl } from "../pull-request";

/** A page of the sandbox that people can open. */
export interface Door {
  /** What is behind it, for people. */
  name: string;
  url: string;
  /** What the page asks for. */
  password: string | undefined;
}

/** Whether a sandbox of this status is reached. */
export function isReached(status: SessionInfo["sandboxStatus"]): boolean {
  return status === "ready" || status === "running" || status === "snapshotting";
}

/** The desktop's page connects by itself; the password stays out of the address, which browsers keep. */
function desktopUrl(url: string): string {
  const page = new URL(url);
  page.pathname = `${page.pathname.replace(/\/$/, "")}/vnc.html`;
  page.searchParams.set("autoconnect", "true");
  page.searchParams.set("resize", "scale");
  return page.href;
}

/** The pages that there are, ours first. Addresses that must not be followed are left out. */
export function doorsOf(access: SandboxAccess | undefined, tunnelUrls: SessionInfo["tunnelUrls"]): Door[] {
  const doors: Door[] = [];
  const add = (name: string, url: string | undefined, password?: string, open = (safe: string) => safe) => {
    const safe = safeUrl(url);
    if (safe !== undefined) doors.push({ name, url: open(safe), password });
  };
  add("Editor", access?.codeServer?.url, access?.codeServer?.password);
  add("Desktop", access?.vnc?.url, access?.vnc?.password, desktopUrl);
  const ports = Object.entries(tunnelUrls ?? {}).toSorted(([one], [other]) => Number(one) - Number(other));
  for (const [port, url] of ports) add(`Port ${port}`, url);
  return doors;
}
