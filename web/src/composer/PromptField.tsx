import { useImperativeHandle, useLayoutEffect, useRef, type KeyboardEvent, type RefObject } from "react";
import { useTouch } from "../design/media";
import styles from "./PromptField.module.css";

/** The session's limit, in UTF-16 units. */
export const PROMPT_MAX = 64_000;

interface PromptFieldProps {
  /** For the focus. */
  field: RefObject<{ focus: (options?: FocusOptions) => void } | null>;
  value: string;
  onChange: (value: string) => void;
  onSend: () => void;
  label: string;
  placeholder: string;
  readOnly?: boolean;
  /** Rows that are always there. */
  rows: number;
  describedBy?: string | undefined;
}

/**
 * The text of a prompt. It grows with its lines; Enter sends and Shift+Enter makes a new line, except under fingers, where Enter
 * makes a new line and the button sends. Enter that ends a composition (of Japanese, say) does neither.
 */
export function PromptField(props: PromptFieldProps) {
  const { field, value, onChange, onSend, label, placeholder, readOnly = false, rows, describedBy } = props;
  const touch = useTouch();
  const area = useRef<HTMLTextAreaElement>(null);
  useImperativeHandle(field, () => ({ focus: (options) => area.current?.focus(options) }), []);
  useLayoutEffect(() => {
    const element = area.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [value]);
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey || event.nativeEvent.isComposing) return;
    if (touch && !event.metaKey && !event.ctrlKey) return;
    event.preventDefault();
    onSend();
  };
  return (
    <textarea
      ref={area}
      className={styles["field"]}
      aria-label={label}
      aria-describedby={describedBy}
      placeholder={placeholder}
      rows={rows}
      maxLength={PROMPT_MAX}
      value={value}
      readOnly={readOnly}
      autoComplete="off"
      enterKeyHint={touch ? "enter" : "send"}
      onChange={(event) => onChange(event.target.value)}
      onKeyDown={onKeyDown}
    />
  );
}
