import type { ReactNode } from "react";
import { SidebarButton } from "./Shell";
import styles from "./Topbar.module.css";

/** The bar over a page: its way to the sessions on narrow windows, then what the page puts there. */
export function Topbar({ children }: { children?: ReactNode }) {
  return (
    <header className={styles["bar"]}>
      <SidebarButton />
      {children}
    </header>
  );
}
