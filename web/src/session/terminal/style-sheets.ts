/**
 * xterm writes its colours and sizes into `<style>` elements and `style` attributes, which the page's policy forbids as it forbids
 * any that were injected. The same written through CSSOM is allowed: this makes those two ways do that.
 */

const sheets = new WeakMap<HTMLStyleElement, CSSStyleSheet>();
let done = false;

export function writeStylesByCssom(): void {
  if (done) return;
  done = true;
  Object.defineProperty(HTMLStyleElement.prototype, "textContent", {
    configurable: true,
    get(this: HTMLStyleElement) {
      return "";
    },
    set(this: HTMLStyleElement, css: string) {
      let sheet = sheets.get(this);
      if (sheet === undefined) {
        sheet = new CSSStyleSheet();
        sheets.set(this, sheet);
        document.adoptedStyleSheets.push(sheet);
      }
      sheet.replaceSync(css);
    },
  });
  HTMLSpanElement.prototype.setAttribute = function (this: HTMLSpanElement, name: string, value: string) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

/** Drops the sheets of what is below an element that is about to go. */
export function dropStylesBelow(element: HTMLElement): void {
  for (const style of element.querySelectorAll("style")) {
    const sheet = sheets.get(style);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
  }
}
