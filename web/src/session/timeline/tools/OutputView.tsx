import { useMemo, useState } from "react";
import { Button } from "../../../design/Button";
import { CopyButton } from "../../../design/CopyButton";
import { stretches } from "../ansi";
import styles from "./Tools.module.css";

/** The end of an output says most: this many lines of it are shown at first. */
const SHOWN = 40;

interface OutputViewProps {
  output: string;
  label: string;
  truncated: boolean;
}

/** What a command printed, in its colours. */
export function OutputView({ output, label, truncated }: OutputViewProps) {
  const [all, setAll] = useState(false);
  const lines = useMemo(() => output.replace(/\n+$/, "").split("\n"), [output]);
  const hidden = all ? 0 : Math.max(0, lines.length - SHOWN);
  const pieces = useMemo(() => stretches(lines.slice(hidden).join("\n")), [lines, hidden]);
  return (
    <div className={styles["block"]}>
      {hidden > 0 && (
        <Button look="quiet" onClick={() => setAll(true)}>
          Show {hidden.toLocaleString()} earlier lines
        </Button>
      )}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre className={styles["output"]} aria-label={label} tabIndex={0}>
        {pieces.map((piece, index) => (
          <span key={index} data-colour={piece.colour} data-bold={piece.bold || undefined} data-dim={piece.dim || undefined}>
            {piece.text}
          </span>
        ))}
      </pre>
      <div className={styles["corner"]}>
        <CopyButton text={output} label="Copy the output" />
      </div>
      {truncated && <p className={styles["footnote"]}>The output was long: its middle was left out.</p>}
    </div>
  );
}
