import { useState } from "react";
import { signOut, useAccount } from "../app/account";
import { chooseTheme, useTheme, type Theme } from "../app/theme";
import { Avatar } from "../design/Avatar";
import { IconButton } from "../design/Button";
import { AutoIcon, MoonIcon, SignOutIcon, SunIcon } from "../design/icons";
import styles from "./Shell.module.css";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const WORDS: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

export function AccountBar() {
  const account = useAccount();
  const theme = useTheme();
  const [leaving, setLeaving] = useState(false);
  if (account.state !== "signed-in") return null;
  const { name, picture } = account.person;
  return (
    <div className={styles["account"]}>
      <Avatar name={name} picture={picture} size={26} />
      <span className={styles["person"]} title={name}>
        {name}
      </span>
      <IconButton
        label={`Theme: ${WORDS[theme]}. Switch to ${WORDS[NEXT[theme]]}`}
        onClick={() => chooseTheme(NEXT[theme])}
      >
        {theme === "system" ? <AutoIcon /> : theme === "light" ? <SunIcon /> : <MoonIcon />}
      </IconButton>
      <IconButton
        label="Sign out"
        disabled={leaving}
        onClick={() => {
          setLeaving(true);
          signOut().catch(() => setLeaving(false));
        }}
      >
        <SignOutIcon />
      </IconButton>
    </div>
  );
}
