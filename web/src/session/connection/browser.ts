import { post, socketUrl } from "../../app/api";
import type { WsTokenResponse } from "../../protocol.generated";
import type { Socket, World } from "./connection";

const NO_PAINT_MS = 200;

/** The real world of a connection: this browser, this origin. */
export function browserWorld(sessionId: string, listChanged: () => void): World {
  const path = encodeURIComponent(sessionId);
  return {
    fetchToken: async (signal) => {
      const answer = await post<WsTokenResponse>(`/api/sessions/${path}/ws-token`, {}, { signal });
      return answer.token;
    },
    openSocket: () => new WebSocket(socketUrl(`/sessions/${path}/ws`)) as Socket,
    now: () => Date.now(),
    random: () => Math.random(),
    newId: () => crypto.randomUUID(),
    visible: () => document.visibilityState === "visible",
    watch: (listener) => {
      document.addEventListener("visibilitychange", listener);
      window.addEventListener("online", listener);
      return () => {
        document.removeEventListener("visibilitychange", listener);
        window.removeEventListener("online", listener);
      };
    },
    soon: (callback) => {
      let done = false;
      const once = () => {
        if (done) return;
        done = true;
        callback();
      };
      requestAnimationFrame(once);
      // A hidden page paints nothing, but its words for screen readers and its title still change.
      setTimeout(once, NO_PAINT_MS);
    },
    listChanged,
  };
}
