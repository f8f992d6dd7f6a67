import { useSession } from "../SessionContext";
import styles from "./SessionComposer.module.css";

/** Who else is writing a prompt right now. */
export function TypingPeople() {
  const typing = useSession((view) => view.session.typing);
  const names = [...typing.values()].map((person) => person.name);
  if (names.length === 0) return null;
  return (
    <span className={styles["typing"]}>
      <span className={styles["dots"]} aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {words(names)}
    </span>
  );
}

function words(names: readonly string[]): string {
  const [first = "", second = ""] = names;
  if (names.length === 1) return `${first} is typing`;
  if (names.length === 2) return `${first} and ${second} are typing`;
  return `${names.length} people are typing`;
}
