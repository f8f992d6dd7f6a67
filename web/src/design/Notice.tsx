import type { ReactNode } from "react";
import { FailIcon, WarningIcon, SparkIcon } from "./icons";
import styles from "./Notice.module.css";

interface NoticeProps {
  tone: "bad" | "busy" | "info";
  children: ReactNode;
  /** What the person can do about it. */
  action?: ReactNode;
}

/** A message that stays until its cause is gone. */
export function Notice({ tone, children, action }: NoticeProps) {
  const Icon = tone === "bad" ? FailIcon : tone === "busy" ? WarningIcon : SparkIcon;
  return (
    <div className={styles["notice"]} data-tone={tone} role={tone === "bad" ? "alert" : "status"}>
      <Icon className={styles["icon"]} />
      <div className={styles["words"]}>{children}</div>
      {action !== undefined && <div className={styles["action"]}>{action}</div>}
    </div>
  );
}
