/** Keys that a phone's keyboard lacks: what each is called, what it shows, what it types. */
export const KEYS = [
  { name: "Escape", shown: "Esc", types: "\x1b" },
  { name: "Tab", shown: "Tab", types: "\t" },
  { name: "Left", shown: "←", types: "\x1b[D" },
  { name: "Up", shown: "↑", types: "\x1b[A" },
  { name: "Down", shown: "↓", types: "\x1b[B" },
  { name: "Right", shown: "→", types: "\x1b[C" },
  { name: "Slash", shown: "/", types: "/" },
  { name: "Minus", shown: "-", types: "-" },
  { name: "Pipe", shown: "|", types: "|" },
] as const;

/** What a key types while Ctrl is held: `c` is 0x03. Anything but one letter or sign between `@` and `_` stays. */
export function withControl(keys: string): string {
  if (keys.length !== 1) return keys;
  const code = keys.toUpperCase().charCodeAt(0);
  if (keys === " ") return "\0";
  return code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : keys;
}
