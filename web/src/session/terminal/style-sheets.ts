/**
 * xterm writes its colours and sizes into `<style>` elements and `style` attributes, which the page's policy forbids as it forbids
 * any that were injected. The same written through CSSOM is allowed: this makes those two ways do that.
 */

const sheets = new WeakMap<Element, CSSStyleSheet>();
let attributesDone = false;

/** Stands where a `<style>` would, and puts what is written into it into a sheet of the document. */
function styleElement(): HTMLElement {
  const element = document.createElement("i");
  element.hidden = true;
  element.dataset["sheet"] = "";
  Object.defineProperty(element, "textContent", {
    get: () => "",
    set: (css: string) => {
      let sheet = sheets.get(element);
      if (sheet === undefined) {
        sheet = new CSSStyleSheet();
        sheets.set(element, sheet);
        document.adoptedStyleSheets.push(sheet);
      }
      sheet.replaceSync(css);
    },
  });
  return element;
}

/** The document as xterm is to see it. */
export function documentForXterm(): Document {
  writeAttributesByCssom();
  return new Proxy(document, {
    get(target, key) {
      if (key === "createElement") {
        return (tag: string) => (tag === "style" ? styleElement() : document.createElement(tag));
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  });
}

function writeAttributesByCssom(): void {
  if (attributesDone) return;
  attributesDone = true;
  HTMLSpanElement.prototype.setAttribute = function (this: HTMLSpanElement, name: string, value: string) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

/** Drops the sheets of what is below an element that is about to go. */
export function dropStylesBelow(element: HTMLElement): void {
  const gone = [...element.querySelectorAll("[data-sheet]")].map((style) => sheets.get(style));
  document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => !gone.includes(sheet));
}
