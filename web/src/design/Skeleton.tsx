import styles from "./Skeleton.module.css";

/** Grey lines in the place of what is being loaded. Widths are shares of the line, in percent. */
export function Skeleton({ widths, label }: { widths: readonly number[]; label: string }) {
  return (
    <div className={styles["skeleton"]} role="status" aria-label={label}>
      {widths.map((width, index) => (
        <span key={index} className={styles["line"]} style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}
