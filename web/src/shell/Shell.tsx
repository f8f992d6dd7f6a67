import { createContext, useContext, useMemo, useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { useAppName } from "../app/config";
import { IconButton } from "../design/Button";
import { Drawer } from "../design/Drawer";
import { MenuIcon, Mark, PlusIcon } from "../design/icons";
import { useNarrow } from "../design/media";
import { SessionListView } from "../session-list/SessionListView";
import { AccountBar } from "./AccountBar";
import styles from "./Shell.module.css";

const OpenSidebar = createContext<(() => void) | undefined>(undefined);

/** The frame around every page of a person who is signed in. */
export function Shell({ children }: { children: ReactNode }) {
  const narrow = useNarrow();
  const [open, setOpen] = useState(false);
  const openSidebar = useMemo(() => (narrow ? () => setOpen(true) : undefined), [narrow]);
  return (
    <div className={styles["shell"]}>
      <a href="#main" className="skip-link">
        Skip to the content
      </a>
      {narrow ? (
        <Drawer open={open} onClose={() => setOpen(false)} label="Sessions and account" side="left">
          <Sidebar onNavigate={() => setOpen(false)} />
        </Drawer>
      ) : (
        <aside className={styles["aside"]} aria-label="Sessions and account">
          <Sidebar />
        </aside>
      )}
      <OpenSidebar.Provider value={openSidebar}>
        <main className={styles["main"]} id="main" tabIndex={-1}>
          {children}
        </main>
      </OpenSidebar.Provider>
    </div>
  );
}

/** Opens the list of sessions where it is not beside the page. */
export function SidebarButton() {
  const openSidebar = useContext(OpenSidebar);
  if (openSidebar === undefined) return null;
  return (
    <IconButton label="Show sessions" onClick={openSidebar}>
      <MenuIcon size={18} />
    </IconButton>
  );
}

function Sidebar({ onNavigate }: { onNavigate?: () => void }) {
  const appName = useAppName();
  const [path] = useLocation();
  return (
    <div className={styles["sidebar"]}>
      <div className={styles["top"]}>
        <Link href="/" className={styles["brand"]} onClick={() => onNavigate?.()}>
          <Mark size={24} />
          {appName}
        </Link>
        <Link
          href="/"
          className={styles["new"]}
          aria-current={path === "/" ? "page" : undefined}
          onClick={() => onNavigate?.()}
        >
          <PlusIcon />
          New session
        </Link>
      </div>
      <div className={styles["list"]}>
        <SessionListView onNavigate={onNavigate} />
      </div>
      <AccountBar />
    </div>
  );
}
