import { useId, useState } from "react";
import { Button } from "../../design/Button";
import { QuestionIcon } from "../../design/icons";
import type { InputRequest } from "../../protocol.generated";
import { useConnection, useSession } from "../SessionContext";
import { useRequest } from "../use-request";
import styles from "./QuestionItem.module.css";

/** Longest answer, in UTF-16 units. */
const ANSWER_MAX = 16_000;

const HEADINGS: Record<InputRequest["kind"], string> = {
  question: "The agent asks",
  plan: "The agent proposes a plan",
  approval: "The agent asks for approval",
};

/** A question of the agent: answered once, by whoever is first. The agent waits meanwhile. */
export function QuestionItem({ request }: { request: InputRequest }) {
  const waiting = request.state === "waiting";
  return (
    <section className={styles["question"]} data-waiting={waiting || undefined} aria-label={HEADINGS[request.kind]}>
      <header className={styles["heading"]}>
        <QuestionIcon />
        <h3>{HEADINGS[request.kind]}</h3>
      </header>
      <p className={styles["words"]}>{request.prompt}</p>
      {waiting ? <Answers request={request} /> : <Outcome request={request} />}
    </section>
  );
}

function Answers({ request }: { request: InputRequest }) {
  const connection = useConnection();
  const live = useSession((view) => view.link.state === "live");
  const [own, setOwn] = useState("");
  const [sent, setSent] = useState("");
  const { busy, failure, ask } = useRequest();
  const field = useId();
  const options = request.options ?? [];
  const answer = (text: string) => {
    setSent(text);
    ask(connection.answerQuestion(request.requestId, text));
  };
  return (
    <>
      {options.length > 0 && (
        <div className={styles["options"]}>
          {options.map((option) => (
            <Button
              key={option}
              busy={busy && sent === option}
              disabled={!live || busy}
              onClick={() => answer(option)}
            >
              {option}
            </Button>
          ))}
        </div>
      )}
      <form
        className={styles["own"]}
        onSubmit={(event) => {
          event.preventDefault();
          if (own.trim() !== "") answer(own.trim());
        }}
      >
        <label htmlFor={field}>{options.length > 0 ? "Or answer in your own words" : "Your answer"}</label>
        <div className={styles["row"]}>
          <input
            id={field}
            value={own}
            maxLength={ANSWER_MAX}
            autoComplete="off"
            onChange={(event) => setOwn(event.target.value)}
          />
          <Button type="submit" look="primary" busy={busy && sent !== "" && sent === own.trim()} disabled={!live || own.trim() === "" || busy}>
            Answer
          </Button>
        </div>
      </form>
      {failure !== undefined && (
        <p className={styles["failure"]} role="alert">
          {failure}
        </p>
      )}
    </>
  );
}

function Outcome({ request }: { request: InputRequest }) {
  if (request.state === "withdrawn") return <p className={styles["outcome"]}>Not answered: the run ended.</p>;
  const by = request.state === "expired" ? "Nobody answered in time" : `${request.answeredBy?.name ?? "Somebody"} answered`;
  return (
    <p className={styles["outcome"]}>
      {by}
      {request.answer !== undefined && (
        <>
          {request.state === "expired" ? "; taken was " : ": "}
          <strong>{request.answer}</strong>
        </>
      )}
    </p>
  );
}
