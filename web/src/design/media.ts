import { useSyncExternalStore } from "react";

function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const list = window.matchMedia(query);
      list.addEventListener("change", listener);
      return () => list.removeEventListener("change", listener);
    },
    () => window.matchMedia(query).matches,
  );
}

/** Too narrow for the list of sessions beside the page. Keep in step with the same width in the style sheets. */
export function useNarrow(): boolean {
  return useMedia("(max-width: 56rem)");
}

/** Wide enough for the details beside the timeline. */
export function useWide(): boolean {
  return useMedia("(min-width: 75rem)");
}

/** Fingers rather than a mouse: Enter then makes a new line, and a button sends. */
export function useTouch(): boolean {
  return useMedia("(pointer: coarse)");
}

/** The system is dark; a person may have chosen otherwise for the page. */
export function useSystemDark(): boolean {
  return useMedia("(prefers-color-scheme: dark)");
}
