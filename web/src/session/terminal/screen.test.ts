import { Terminal } from "@xterm/xterm";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { XtermScreen } from "./screen";

const SIZE = { cols: 80, rows: 24 };

// xterm does its own work here, and is drawn on nothing.
beforeEach(() => {
  const probe = { style: {}, remove: () => undefined };
  vi.stubGlobal("document", { createElement: () => probe, adoptedStyleSheets: [] });
  vi.stubGlobal("HTMLSpanElement", class { style = {}; });
  vi.stubGlobal("getComputedStyle", () => ({ color: "#000", fontFamily: "monospace", fontSize: "13px" }));
  vi.stubGlobal("window", { matchMedia: () => ({ matches: false }) });
  vi.stubGlobal("ResizeObserver", class { observe() {} disconnect() {} });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function bench() {
  const open = vi.spyOn(Terminal.prototype, "open").mockReturnValue();
  const element = { append: () => undefined, querySelectorAll: () => [] } as unknown as HTMLElement;
  const screen = new XtermScreen(element, { keys: () => undefined, resized: () => undefined, leave: () => undefined });
  const terminal = open.mock.contexts[0] as Terminal;
  const write = (text: string) => new Promise<void>((shown) => screen.write(new TextEncoder().encode(text), shown));
  const lines = () => {
    const rows = Array.from({ length: terminal.rows }, (_, row) => terminal.buffer.active.getLine(row)?.translateToString(true));
    return rows.filter((line) => line !== "");
  };
  return { screen, terminal, write, lines };
}

describe("xterm as a screen", () => {
  it("drops what was written before a reset, also what it has not read yet", async () => {
    const { screen, terminal, write, lines } = bench();
    void write("old words");
    screen.reset({ cols: 40, rows: 10 });
    await write("new words");
    expect(lines()).toEqual(["new words"]);
    expect([terminal.cols, terminal.rows]).toEqual([40, 10]);
  });

  it("places what was written before a new size by the size that it was written for", async () => {
    const { screen, terminal, write, lines } = bench();
    screen.reset({ cols: 40, rows: 10 });
    void write("\x1b[1;60Hx");
    screen.resize(SIZE);
    await write("");
    expect(lines()).toEqual(["x".padStart(40)]);
    expect([terminal.cols, terminal.rows]).toEqual([80, 24]);
  });

  it("leaves a terminal alone that is gone meanwhile", async () => {
    const { screen, terminal } = bench();
    const reset = vi.spyOn(terminal, "reset");
    screen.reset(SIZE);
    screen.dispose();
    await new Promise((resume) => setTimeout(resume, 20));
    expect(reset).not.toHaveBeenCalled();
  });
});
