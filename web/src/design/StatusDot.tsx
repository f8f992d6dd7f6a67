import styles from "./StatusDot.module.css";

export type Tone = "idle" | "quiet" | "busy" | "ok" | "bad";

/** A coloured dot. Decorative: the same state always stands beside it in words, seen or for screen readers. */
export function StatusDot({ tone, pulsing = false }: { tone: Tone; pulsing?: boolean }) {
  return <span className={styles["dot"]} data-tone={tone} data-pulsing={pulsing || undefined} aria-hidden="true" />;
}
