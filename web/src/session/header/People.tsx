import { Avatar } from "../../design/Avatar";
import type { Presence } from "../../protocol.generated";
import { useSession } from "../SessionContext";
import styles from "./People.module.css";

const SHOWN = 4;

/** Who is looking at this session now; people who look elsewhere meanwhile are pale. */
export function People() {
  const presence = useSession((view) => view.session.presence);
  const me = useSession((view) => view.session.me?.participantId);
  if (presence.length === 0) return null;
  const people = inOrder(presence, me);
  const rest = people.length - SHOWN;
  return (
    <ul className={styles["people"]} aria-label="People here">
      {people.slice(0, rest > 0 ? SHOWN - 1 : SHOWN).map((person) => {
        const words = `${person.name}${person.participantId === me ? " (you)" : ""}${person.status === "active" ? "" : ", away"}`;
        return (
          <li key={person.participantId} className={styles["person"]} title={words}>
            <Avatar name={person.name} picture={person.avatar} size={26} away={person.status !== "active"} />
            <span className="visually-hidden">{words}</span>
          </li>
        );
      })}
      {rest > 0 && (
        <li className={styles["more"]} title={people.slice(SHOWN - 1).map((person) => person.name).join(", ")}>
          +{rest + 1}
        </li>
      )}
    </ul>
  );
}

/** Others first, those who look before those who do not, and oneself last. */
function inOrder(presence: readonly Presence[], me: string | undefined): Presence[] {
  const rank = (person: Presence) => (person.participantId === me ? 2 : person.status === "active" ? 0 : 1);
  return [...presence].sort((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name));
}
