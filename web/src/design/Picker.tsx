import { useId, useMemo, useRef, useState, type CSSProperties, type KeyboardEvent, type ReactNode } from "react";
import { CheckIcon, ChevronDownIcon, SearchIcon } from "./icons";
import styles from "./Picker.module.css";

export interface Choice {
  value: string;
  label: string;
  /** A quieter word beside the label. */
  hint?: string | undefined;
  /** Choices of the same group stand together under its name. */
  group?: string | undefined;
  icon?: ReactNode;
}

interface PickerProps {
  /** What is chosen here: `Repository`. */
  label: string;
  icon?: ReactNode;
  choices: readonly Choice[];
  value: string | undefined;
  onChoose: (value: string) => void;
  /** Shown on the button while nothing is chosen. */
  placeholder: string;
  searchable?: boolean;
  disabled?: boolean;
  /** Stands in the place of the choices when there are none. */
  empty?: ReactNode;
}

const GAP = 6;
const MARGIN = 8;
const WIDTH = 320;
const HEIGHT = 380;

/** A button that opens a list to choose from, with a field that narrows it. */
export function Picker(props: PickerProps) {
  const { label, icon, choices, value, onChoose, placeholder, searchable = false, disabled = false, empty } = props;
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const popover = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const [place, setPlace] = useState<CSSProperties>({});
  const [search, setSearch] = useState("");
  const [active, setActive] = useState(0);

  const found = useMemo(() => narrow(choices, search), [choices, search]);
  const chosen = choices.find((choice) => choice.value === value);
  const activeId = found[active] === undefined ? undefined : `${id}-${active}`;

  const toggled = (nowOpen: boolean) => {
    setOpen(nowOpen);
    if (!nowOpen) return;
    if (button.current !== null) setPlace(placeBeside(button.current.getBoundingClientRect()));
    setSearch("");
    setActive(Math.max(0, choices.findIndex((choice) => choice.value === value)));
  };
  const choose = (choice: Choice | undefined) => {
    if (choice === undefined) return;
    onChoose(choice.value);
    popover.current?.hidePopover();
    button.current?.focus();
  };
  const move = (to: number) => {
    const next = Math.min(Math.max(0, to), found.length - 1);
    setActive(next);
    document.getElementById(`${id}-${next}`)?.scrollIntoView({ block: "nearest" });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    const keys: Record<string, () => void> = {
      ArrowDown: () => move(active + 1),
      ArrowUp: () => move(active - 1),
      PageDown: () => move(active + 8),
      PageUp: () => move(active - 8),
      Enter: () => choose(found[active]),
      Tab: () => popover.current?.hidePopover(),
    };
    if (!searchable) Object.assign(keys, { Home: () => move(0), End: () => move(found.length - 1), " ": () => choose(found[active]) });
    const act = keys[event.key];
    if (act === undefined) return;
    if (event.key !== "Tab") event.preventDefault();
    act();
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        className={styles["button"]}
        popoverTarget={`${id}-popover`}
        disabled={disabled}
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-label={`${label}: ${chosen?.label ?? placeholder}`}
      >
        {chosen?.icon ?? icon}
        <span className={styles["chosen"]} data-empty={chosen === undefined || undefined}>
          {chosen?.label ?? placeholder}
        </span>
        <ChevronDownIcon size={13} className={styles["chevron"]} />
      </button>
      <div
        ref={popover}
        id={`${id}-popover`}
        popover="auto"
        className={styles["popover"]}
        style={place}
        onToggle={(event) => toggled(event.newState === "open")}
      >
        {searchable && (
          <div className={styles["search"]}>
            <SearchIcon size={15} />
            <input
              // The field is what the button was pressed for; the popover takes the focus, as a dialog would.
              // eslint-disable-next-line jsx-a11y/no-autofocus
              autoFocus
              type="text"
              role="combobox"
              aria-label={`Search: ${label}`}
              aria-expanded={open}
              aria-controls={`${id}-list`}
              aria-activedescendant={activeId}
              aria-autocomplete="list"
              autoComplete="off"
              spellCheck={false}
              placeholder="Search"
              value={search}
              onChange={(event) => {
                setSearch(event.target.value);
                setActive(0);
              }}
              onKeyDown={onKeyDown}
            />
          </div>
        )}
        <div
          id={`${id}-list`}
          className={styles["list"]}
          role="listbox"
          aria-label={label}
          {...(searchable ? {} : { tabIndex: 0, autoFocus: true, "aria-activedescendant": activeId, onKeyDown })}
        >
          {found.map((choice, index) => (
            <Option
              key={choice.value}
              id={`${id}-${index}`}
              choice={choice}
              heading={choice.group !== found[index - 1]?.group ? choice.group : undefined}
              active={index === active}
              selected={choice.value === value}
              onPoint={() => setActive(index)}
              onChoose={() => choose(choice)}
            />
          ))}
        </div>
        {found.length === 0 && (
          <div className={styles["empty"]}>{choices.length === 0 ? empty : <>Nothing matches “{search}”.</>}</div>
        )}
      </div>
    </>
  );
}

interface OptionProps {
  id: string;
  choice: Choice;
  heading: string | undefined;
  active: boolean;
  selected: boolean;
  onPoint: () => void;
  onChoose: () => void;
}

function Option({ id, choice, heading, active, selected, onPoint, onChoose }: OptionProps) {
  return (
    <>
      {heading !== undefined && (
        <div className={styles["group"]} role="presentation">
          {heading}
        </div>
      )}
      {/* The keys are those of the list, which has the focus. */}
      {/* eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/interactive-supports-focus */}
      <div
        id={id}
        role="option"
        aria-selected={selected}
        className={styles["option"]}
        data-active={active || undefined}
        onPointerMove={onPoint}
        onClick={onChoose}
      >
        {choice.icon}
        <span className={styles["label"]}>{choice.label}</span>
        {choice.hint !== undefined && <span className={styles["hint"]}>{choice.hint}</span>}
        {selected && <CheckIcon size={15} className={styles["check"]} />}
      </div>
    </>
  );
}

function narrow(choices: readonly Choice[], search: string): readonly Choice[] {
  const words = search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return choices;
  return choices.filter((choice) => {
    const text = `${choice.label} ${choice.hint ?? ""} ${choice.group ?? ""}`.toLocaleLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Below the button when there is room, else above it, and always within the window. */
function placeBeside(rect: DOMRect): CSSProperties {
  const width = Math.min(WIDTH, window.innerWidth - 2 * MARGIN);
  const left = Math.max(MARGIN, Math.min(rect.left, window.innerWidth - width - MARGIN));
  const below = window.innerHeight - rect.bottom - GAP - MARGIN;
  const above = rect.top - GAP - MARGIN;
  const up = below < HEIGHT && above > below;
  return {
    width,
    left,
    maxHeight: Math.min(HEIGHT, up ? above : below),
    ...(up ? { bottom: window.innerHeight - rect.top + GAP, top: "auto" } : { top: rect.bottom + GAP, bottom: "auto" }),
  };
}
