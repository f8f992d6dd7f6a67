/** The browser's storage, which may be blocked or full: reading then gives nothing, and writing does nothing. */

const PREFIX = "open-inspect.";

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + key, value);
  } catch {
    // What cannot be kept is asked for again.
  }
}

export function recall(key: string): string | undefined {
  try {
    return localStorage.getItem(PREFIX + key) ?? undefined;
  } catch {
    return undefined;
  }
}

export function forget(key: string): void {
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {
    // Nothing was kept.
  }
}

/** Removes what belongs to the person who signs out; the theme is the browser's. */
export function forgetPerson(): void {
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(PREFIX) && key !== `${PREFIX}theme`) localStorage.removeItem(key);
    }
  } catch {
    // Nothing was kept.
  }
}
