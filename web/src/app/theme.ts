import { useSyncExternalStore } from "react";
import { forget, recall, remember } from "./storage";

export type Theme = "system" | "light" | "dark";

const listeners = new Set<() => void>();

function read(): Theme {
  const chosen = recall("theme");
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

/** Applies and keeps a choice; `public/theme.js` applies it again before the next first paint. */
export function chooseTheme(theme: Theme): void {
  if (theme === "system") {
    forget("theme");
    delete document.documentElement.dataset["theme"];
  } else {
    remember("theme", theme);
    document.documentElement.dataset["theme"] = theme;
  }
  for (const listener of listeners) listener();
}

export function useTheme(): Theme {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    read,
  );
}
