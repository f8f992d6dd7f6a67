import { Fragment, useMemo } from "react";
import { CheckIcon } from "../../../design/icons";
import { StatusDot } from "../../../design/StatusDot";
import type { ToolCall } from "../../../protocol.generated";
import { Markdown } from "../Markdown";
import { DiffView } from "./DiffView";
import { OutputView } from "./OutputView";
import { diffOf } from "./tool-change";
import { kindOf, pathOf, textArgument } from "./tool-words";
import styles from "./Tools.module.css";

/** What a call was given and what came of it. */
export function ToolDetails({ call }: { call: ToolCall }) {
  return (
    <>
      {(call.error ?? "") !== "" && (
        <p className={styles["error"]} role="alert">
          {call.error}
        </p>
      )}
      <Content call={call} />
    </>
  );
}

function Content({ call }: { call: ToolCall }) {
  switch (kindOf(call.tool)) {
    case "command":
      return (
        <>
          <pre className={styles["command"]}>
            <span aria-hidden="true">$ </span>
            {textArgument(call, "command", "cmd") ?? ""}
          </pre>
          <Output call={call} />
        </>
      );
    case "edit":
      return <Edit call={call} />;
    case "todo":
      return <Todos call={call} />;
    case "task":
      return (
        <>
          <Arguments call={call} without={["description"]} />
          {(call.output ?? "") !== "" && <Markdown text={taskResult(call.output ?? "")} writing={false} />}
        </>
      );
    case "read":
      return (
        <>
          <p className={styles["path"]}>{pathOf(call)}</p>
          <Output call={call} />
        </>
      );
    default:
      return (
        <>
          <Arguments call={call} />
          <Output call={call} />
        </>
      );
  }
}

function Edit({ call }: { call: ToolCall }) {
  const lines = useMemo(() => diffOf(call), [call]);
  const path = pathOf(call);
  return (
    <>
      {path !== undefined && <p className={styles["path"]}>{path}</p>}
      {lines === undefined ? <Output call={call} /> : <DiffView lines={lines} label={`Change of ${path ?? "files"}`} />}
    </>
  );
}

function Output({ call }: { call: ToolCall }) {
  const output = call.output ?? "";
  if (output.trim() === "") {
    return call.status === "completed" ? <p className={styles["footnote"]}>No output.</p> : null;
  }
  return <OutputView output={output} label="Output" truncated={call.truncated ?? false} />;
}

function Arguments({ call, without = [] }: { call: ToolCall; without?: readonly string[] }) {
  const entries = Object.entries(call.args).filter(([name]) => !without.includes(name));
  if (entries.length === 0) return null;
  return (
    <dl className={styles["arguments"]}>
      {entries.map(([name, value]) => (
        <Fragment key={name}>
          <dt>{name}</dt>
          <dd>{typeof value === "string" ? value : JSON.stringify(value, undefined, 2)}</dd>
        </Fragment>
      ))}
    </dl>
  );
}

function Todos({ call }: { call: ToolCall }) {
  const todos = call.args["todos"];
  if (!Array.isArray(todos)) return <Arguments call={call} />;
  return (
    <ul className={styles["todos"]}>
      {todos.map((todo: unknown, index) => {
        const { content, status } = readTodo(todo);
        return (
          <li key={index} data-status={status}>
            {status === "completed" ? <CheckIcon size={14} /> : <StatusDot tone={status === "in_progress" ? "busy" : "idle"} />}
            <span>{content}</span>
            <span className="visually-hidden">, {status.replace("_", " ")}</span>
          </li>
        );
      })}
    </ul>
  );
}

function readTodo(todo: unknown): { content: string; status: string } {
  const record = (typeof todo === "object" && todo !== null ? todo : {}) as Record<string, unknown>;
  const text = (name: string, otherwise: string) => (typeof record[name] === "string" ? record[name] : otherwise);
  return { content: text("content", ""), status: text("status", "pending") };
}

/** A sub-agent's answer without the envelope that it comes in. */
function taskResult(output: string): string {
  return /<task_result>([\s\S]*?)<\/task_result>/.exec(output)?.[1]?.trim() ?? output;
}
