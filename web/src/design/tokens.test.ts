import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const SRC = join(import.meta.dirname, "..");

function files(folder: string, ending: RegExp): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => ending.test(path))
    .map((path) => join(folder, path));
}

function luminance(hex: string): number {
  const channels = [1, 3, 5].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  const [red = 0, green = 0, blue = 0] = channels;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

const tokens = new Map<string, { light: string; dark: string }>();
for (const match of readFileSync(join(SRC, "design/tokens.css"), "utf8").matchAll(
  /--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g,
)) {
  const [, name = "", light = "", dark = ""] = match;
  tokens.set(name, { light, dark });
}

function pair(name: string) {
  const token = tokens.get(name);
  if (token === undefined) throw new Error(`no token ${name}`);
  return token;
}

describe("design tokens", () => {
  it("keeps every colour in one file", () => {
    const stray = files(SRC, /\.(css|tsx)$/)
      .filter((path) => !path.endsWith("tokens.css"))
      .filter((path) => /(#[0-9a-fA-F]{3,8}\b(?=\s*[;)"',]))|\brgba?\(|\bhsla?\(/.test(readFileSync(path, "utf8")));
    expect(stray).toEqual([]);
  });

  const grounds = ["sunken", "canvas", "surface", "raised"];
  const texts = ["ink", "ink-muted", "ink-faint", "accent", "ok", "busy", "bad", "info", "merged"];
  it.each(texts)("%s is readable on every ground in both schemes", (text) => {
    for (const ground of grounds) {
      expect(contrast(pair(text).light, pair(ground).light), `${text} on ${ground}, light`).toBeGreaterThanOrEqual(4.5);
      expect(contrast(pair(text).dark, pair(ground).dark), `${text} on ${ground}, dark`).toBeGreaterThanOrEqual(4.5);
    }
  });

  it.each(["accent", "ok", "busy", "bad", "info", "merged"])("%s and plain text are readable on its tint", (name) => {
    for (const text of [name, "ink", "ink-muted"]) {
      expect(contrast(pair(text).light, pair(`${name}-tint`).light), `${text}, light`).toBeGreaterThanOrEqual(4.5);
      expect(contrast(pair(text).dark, pair(`${name}-tint`).dark), `${text}, dark`).toBeGreaterThanOrEqual(4.5);
    }
  });

  it("shows the edges of controls", () => {
    for (const ground of ["canvas", "surface", "raised"]) {
      expect(contrast(pair("line-control").light, pair(ground).light)).toBeGreaterThanOrEqual(3);
      expect(contrast(pair("line-control").dark, pair(ground).dark)).toBeGreaterThanOrEqual(3);
    }
  });

  it.each(["dot-ok", "dot-busy", "dot-bad"])("%s can be made out on every ground", (dot) => {
    for (const ground of grounds) {
      expect(contrast(pair(dot).light, pair(ground).light), `${ground}, light`).toBeGreaterThanOrEqual(3);
      expect(contrast(pair(dot).dark, pair(ground).dark), `${ground}, dark`).toBeGreaterThanOrEqual(3);
    }
  });

  it("names only tokens that exist", () => {
    const known = new Set([...readFileSync(join(SRC, "design/tokens.css"), "utf8").matchAll(/^\s*(--[\w-]+):/gm)].map((m) => m[1]));
    const unknown = files(SRC, /\.(css|tsx)$/).flatMap((path) =>
      [...readFileSync(path, "utf8").matchAll(/var\((--[\w-]+)/g)]
        .map((match) => match[1] ?? "")
        .filter((name) => !known.has(name))
        .map((name) => `${path}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });
});
