import { BranchIcon } from "../design/icons";
import styles from "./NewSessionPage.module.css";

interface BranchFieldProps {
  value: string;
  onChange: (branch: string) => void;
  defaultBranch: string;
}

/** The branch to start from; the repository's own default when nothing is written. */
export function BranchField({ value, onChange, defaultBranch }: BranchFieldProps) {
  const shown = value === "" ? defaultBranch : value;
  return (
    <label className={styles["branch"]} title="Branch to start from">
      <BranchIcon />
      <span className="visually-hidden">Branch to start from</span>
      <span className={styles["branch-size"]} data-text={shown}>
        <input
          type="text"
          value={value}
          placeholder={defaultBranch}
          maxLength={255}
          size={1}
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          onChange={(event) => onChange(event.target.value.replace(/\s/g, ""))}
        />
      </span>
    </label>
  );
}
