/** A stretch of a command's output in one look. */
export interface Stretch {
  text: string;
  /** `red`, `green`, ... or nothing. */
  colour: string | undefined;
  bold: boolean;
  dim: boolean;
}

const COLOURS = ["faint", "red", "green", "yellow", "blue", "magenta", "cyan", "ink"];
// eslint-disable-next-line no-control-regex -- escape sequences are what is looked for
const SEQUENCE = /\u001b(?:\[([0-9;:?]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
// eslint-disable-next-line no-control-regex -- control characters are what is removed
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

/** Reads colours and weight of terminal output; every other control sequence is left out. */
export function stretches(output: string): Stretch[] {
  const found: Stretch[] = [];
  let look = { colour: undefined as string | undefined, bold: false, dim: false };
  let at = 0;
  const push = (raw: string) => {
    const text = overwritten(raw).replace(CONTROLS, "");
    if (text !== "") found.push({ text, ...look });
  };
  for (const match of output.matchAll(SEQUENCE)) {
    push(output.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") look = styled(look, (match[1] ?? "").split(/[;:]/).map(Number));
  }
  push(output.slice(at));
  return found;
}

function styled(look: { colour: string | undefined; bold: boolean; dim: boolean }, codes: number[]) {
  const next = { ...look };
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] ?? 0;
    if (code === 0) Object.assign(next, { colour: undefined, bold: false, dim: false });
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 22) Object.assign(next, { bold: false, dim: false });
    else if (code >= 30 && code <= 37) next.colour = COLOURS[code - 30];
    else if (code >= 90 && code <= 97) next.colour = COLOURS[code - 90];
    else if (code === 39) next.colour = undefined;
    // 256 and true colours have no place in the palette: skip their operands.
    else if (code === 38 || code === 48) index += codes[index + 1] === 5 ? 2 : 4;
  }
  return next;
}

/** A carriage return writes over its line: only what is seen at the end stays. */
function overwritten(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(/[^\n]*\r(?=[^\n])/g, "").replaceAll("\r", "");
}
