import type { ComponentProps, ReactNode } from "react";
import styles from "./Button.module.css";

type Look = "primary" | "plain" | "quiet" | "danger";

interface ButtonProps extends Omit<ComponentProps<"button">, "className"> {
  look?: Look;
  /** Drawn before the words. */
  icon?: ReactNode;
  /** Shows that the press is being worked on, and takes no other. */
  busy?: boolean;
  wide?: boolean;
}

export function Button({ look = "plain", icon, busy = false, wide = false, children, disabled, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      className={styles["button"]}
      data-look={look}
      data-wide={wide || undefined}
      disabled={disabled ?? busy}
      aria-busy={busy || undefined}
      {...rest}
    >
      {busy ? <span className={styles["spinner"]} aria-hidden="true" /> : icon}
      {children}
    </button>
  );
}

interface IconButtonProps extends Omit<ComponentProps<"button">, "className" | "aria-label" | "children"> {
  /** The button's name, for screen readers and as a hint. */
  label: string;
  look?: "quiet" | "primary" | "danger";
  children: ReactNode;
}

export function IconButton({ label, look = "quiet", children, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      className={styles["icon-button"]}
      data-look={look}
      aria-label={label}
      title={label}
      {...rest}
    >
      {children}
    </button>
  );
}
