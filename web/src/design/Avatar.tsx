import { useState } from "react";
import styles from "./Avatar.module.css";

const COLOURS = 5;

function colourOf(name: string): number {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 997;
  return (sum % COLOURS) + 1;
}

function initials(name: string): string {
  const words = name.trim().split(/\s+/).slice(0, 2);
  return words.map((word) => word.slice(0, 1)).join("").toLocaleUpperCase() || "?";
}

interface AvatarProps {
  name: string;
  picture?: string | undefined;
  size?: number;
  /** Drawn without colour: the person is not looking. */
  away?: boolean;
}

/** A person's picture, or their initials where there is none. Decorative: their name stands beside it. */
export function Avatar({ name, picture, size = 24, away = false }: AvatarProps) {
  const [broken, setBroken] = useState(false);
  const style = { width: size, height: size, fontSize: Math.round(size * 0.42) };
  if (picture !== undefined && picture !== "" && !broken) {
    return (
      <img
        className={styles["avatar"]}
        style={style}
        data-away={away || undefined}
        src={picture}
        alt=""
        loading="lazy"
        referrerPolicy="no-referrer"
        onError={() => setBroken(true)}
      />
    );
  }
  return (
    <span className={styles["avatar"]} style={style} data-colour={colourOf(name)} data-away={away || undefined} aria-hidden="true">
      {initials(name)}
    </span>
  );
}
