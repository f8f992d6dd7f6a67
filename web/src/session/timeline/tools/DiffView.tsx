import { useState } from "react";
import { Button } from "../../../design/Button";
import type { DiffLine } from "./line-diff";
import styles from "./Tools.module.css";

const SHOWN = 120;
const SIGN = { added: "+", removed: "−", same: "", gap: "" } as const;
const WORDS = { added: "Added: ", removed: "Removed: ", same: "", gap: "" } as const;

export function DiffView({ lines, label }: { lines: readonly DiffLine[]; label: string }) {
  const [all, setAll] = useState(false);
  const shown = all ? lines : lines.slice(0, SHOWN);
  return (
    <div className={styles["block"]}>
      {/* Lines may be wider than the page: the keyboard must be able to scroll them. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className={styles["diff"]} role="group" aria-label={label} tabIndex={0}>
        <div className={styles["diff-lines"]}>
          {shown.map((line, index) => (
            <div key={index} className={styles["diff-line"]} data-kind={line.kind}>
              <span className={styles["sign"]} aria-hidden="true">
                {SIGN[line.kind]}
              </span>
              <span className="visually-hidden">{WORDS[line.kind]}</span>
              <span>{line.kind === "gap" && line.text === "" ? "⋯" : line.text || " "}</span>
            </div>
          ))}
        </div>
      </div>
      {lines.length > shown.length && (
        <Button look="quiet" onClick={() => setAll(true)}>
          Show all {lines.length.toLocaleString()} lines
        </Button>
      )}
    </div>
  );
}
