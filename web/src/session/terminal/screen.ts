import { FitAddon } from "@xterm/addon-fit";
import { Terminal, type ITheme } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import type { TerminalSize } from "../../protocol.generated";
import { documentForXterm, dropStylesBelow } from "./style-sheets";
import type { Screen } from "./terminal-connection";

const SCROLLBACK_LINES = 5_000;

/** The value of a design token as xterm reads it, in the colours that are shown now. */
function token(probe: HTMLElement, name: string): string {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

function themeOf(element: HTMLElement): ITheme {
  const probe = document.createElement("i");
  element.append(probe);
  const of = (name: string) => token(probe, name);
  const theme: ITheme = {
    background: of("--sunken"),
    foreground: of("--ink"),
    cursor: of("--accent"),
    cursorAccent: of("--sunken"),
    selectionBackground: of("--line-strong"),
    black: of("--ink"),
    red: of("--term-red"),
    green: of("--term-green"),
    yellow: of("--term-yellow"),
    blue: of("--term-blue"),
    magenta: of("--term-magenta"),
    cyan: of("--term-cyan"),
    white: of("--ink-muted"),
    brightBlack: of("--ink-faint"),
    brightRed: of("--term-red"),
    brightGreen: of("--term-green"),
    brightYellow: of("--term-yellow"),
    brightBlue: of("--term-blue"),
    brightMagenta: of("--term-magenta"),
    brightCyan: of("--term-cyan"),
    brightWhite: of("--ink"),
  };
  probe.remove();
  return theme;
}

interface ScreenEvents {
  keys: (keys: string) => void;
  resized: () => void;
  leave: () => void;
}

/** xterm in an element, as a screen of the connection. */
export class XtermScreen implements Screen {
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #observer: ResizeObserver;
  #gone = false;

  constructor(
    private readonly element: HTMLElement,
    events: ScreenEvents,
  ) {
    const style = getComputedStyle(element);
    this.#terminal = new Terminal({
      documentOverride: documentForXterm(),
      fontFamily: style.fontFamily,
      fontSize: Number.parseFloat(style.fontSize),
      lineHeight: 1.2,
      scrollback: SCROLLBACK_LINES,
      cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
      // Words of programs are readable whatever colours they choose.
      minimumContrastRatio: 4.5,
      theme: themeOf(element),
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.open(element);
    this.#terminal.textarea?.setAttribute("aria-label", "Terminal input. Press Shift and Escape to leave it.");
    this.#terminal.attachCustomKeyEventHandler((event) => {
      if (event.key !== "Escape" || !event.shiftKey) return true;
      if (event.type === "keydown") events.leave();
      return false;
    });
    this.#terminal.onData(events.keys);
    this.#observer = new ResizeObserver(events.resized);
    this.#observer.observe(element);
  }

  fits(): TerminalSize {
    const { cols, rows } = this.#fit.proposeDimensions() ?? this.#terminal;
    // NaN while it is not laid out.
    return cols >= 2 && rows >= 1 ? { cols, rows } : { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  reset({ cols, rows }: TerminalSize): void {
    this.#inTurn(() => {
      this.#terminal.reset();
      this.#terminal.resize(cols, rows);
    });
  }

  resize({ cols, rows }: TerminalSize): void {
    this.#inTurn(() => this.#terminal.resize(cols, rows));
  }

  write(bytes: Uint8Array, shown: () => void): void {
    this.#terminal.write(bytes, shown);
  }

  /** What is written waits in xterm until it is read; its other calls take effect at once, and would overtake it. */
  #inTurn(then: () => void): void {
    this.#terminal.write("", () => {
      if (!this.#gone) then();
    });
  }

  focus(): void {
    this.#terminal.focus();
  }

  /** The page's colours have changed. */
  recolour(): void {
    this.#terminal.options.theme = themeOf(this.element);
  }

  dispose(): void {
    this.#gone = true;
    this.#observer.disconnect();
    dropStylesBelow(this.element);
    this.#terminal.dispose();
  }
}
