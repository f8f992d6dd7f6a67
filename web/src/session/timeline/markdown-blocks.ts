const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/**
 * Splits text that is still being written into blocks that later text cannot change, so that each is rendered once and only the
 * last one again. A block ends at a blank line outside a code fence, before a line that neither is indented nor continues a list.
 * Joining the blocks with blank lines gives the text again, but for the number of blank lines.
 */
export function markdownBlocks(text: string): string[] {
  const blocks: string[] = [];
  let block: string[] = [];
  let fence: string | undefined;
  let blank = false;
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line)?.[1];
    if (fence === undefined && blank && block.length > 0 && line.trim() !== "" && !continues(line)) {
      blocks.push(block.join("\n").trimEnd());
      block = [];
    }
    if (mark !== undefined) {
      if (fence === undefined) fence = mark;
      else if (mark.startsWith(fence) && line.trim() === mark) fence = undefined;
    }
    blank = line.trim() === "";
    block.push(line);
  }
  if (block.some((line) => line.trim() !== "")) blocks.push(block.join("\n"));
  return blocks;
}

/** Whether a line after a blank one may belong to what stands before it: indented text, or the next item of a list. */
function continues(line: string): boolean {
  return /^\s|^(?:[-*+]|\d{1,9}[.)])(?:\s|$)/.test(line);
}
