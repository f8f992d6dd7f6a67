import { useState } from "react";
import { ChevronRightIcon, ThoughtIcon } from "../../design/icons";
import styles from "./Items.module.css";
import { Markdown } from "./Markdown";

/** What the agent thought, behind its first words. */
export function ReasoningItem({ texts, writing }: { texts: readonly string[]; writing: boolean }) {
  const [open, setOpen] = useState(false);
  const newest = texts.at(-1) ?? "";
  return (
    <div className={styles["reasoning"]}>
      <button type="button" className={styles["thought"]} aria-expanded={open} onClick={() => setOpen((now) => !now)}>
        <ThoughtIcon size={15} />
        <span>{writing ? "Thinking" : "Thought"}</span>
        {!open && <span className={styles["glimpse"]}>{glimpse(newest)}</span>}
        <ChevronRightIcon size={13} className={styles["chevron"]} />
      </button>
      {open && (
        <div className={styles["thoughts"]}>
          {texts.map((text, index) => (
            <Markdown key={index} text={text} writing={writing && index === texts.length - 1} />
          ))}
        </div>
      )}
    </div>
  );
}

/** The newest line, without its marks. */
function glimpse(text: string): string {
  const line = text.trimEnd().split("\n").findLast((each) => each.trim() !== "") ?? "";
  return line.replace(/[*_`#>]+/g, "").trim();
}
