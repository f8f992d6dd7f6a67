import { useEffect, useRef, type ReactNode } from "react";
import { IconButton } from "./Button";
import { CloseIcon } from "./icons";
import styles from "./Drawer.module.css";

interface DrawerProps {
  open: boolean;
  onClose: () => void;
  /** What it holds, for screen readers. */
  label: string;
  side: "left" | "right";
  children: ReactNode;
}

/** A panel over the page, on narrow windows. A native dialog: it keeps the focus, and Escape closes it. */
export function Drawer({ open, onClose, label, side, children }: DrawerProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open && dialog.current?.open === false) dialog.current.showModal();
    if (!open && dialog.current?.open === true) dialog.current.close();
  }, [open]);
  return (
    // A press on the scrim is a shortcut for the pointer; the keyboard has Escape.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/click-events-have-key-events
    <dialog
      ref={dialog}
      className={styles["drawer"]}
      data-side={side}
      aria-label={label}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      {open && (
        <div className={styles["panel"]}>
          <div className={styles["close"]}>
            <IconButton label="Close" onClick={onClose}>
              <CloseIcon size={18} />
            </IconButton>
          </div>
          {children}
        </div>
      )}
    </dialog>
  );
}
