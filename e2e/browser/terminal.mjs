// Two people at one terminal, in two browsers, on a desktop's and a phone's width.
//
// Elements are found as a person finds them, by role and name. Pictures are kept for looking at.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { PLAYWRIGHT_CORE, CHROMIUM, BASE_URL, SESSION, PICTURES } = process.env;
const { chromium } = createRequire(import.meta.url)(PLAYWRIGHT_CORE);

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

function assert(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

async function browser(login, options) {
  const folder = mkdtempSync(join(tmpdir(), "oi-chromium-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM, headless: true, args: flags, ...options,
  });
  context.setDefaultTimeout(20_000);
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) problems.push(message.text());
  });
  await page.goto(BASE_URL + "/");
  await page.getByRole("button", { name: /github/i }).click();
  await page.waitForURL(/login\/oauth\/authorize/);
  await page.getByRole("button", { name: new RegExp(login, "i") }).click();
  await page.waitForURL((url) => url.href.startsWith(BASE_URL) && !url.pathname.startsWith("/login") && !url.pathname.startsWith("/api"));
  await page.goto(`${BASE_URL}/session/${SESSION}`);
  return { context, page, problems, close: async () => { await context.close(); rmSync(folder, { recursive: true, force: true }); } };
}

/** What the terminal shows, without the styling of its letters. */
const shown = (page) => page.locator(".xterm-rows").innerText();

async function until(page, text) {
  const deadline = Date.now() + 20_000;
  while (!(await shown(page)).replaceAll("\u00a0", " ").includes(text)) {
    if (Date.now() > deadline) throw new Error(`no "${text}" in: ${await shown(page)}`);
    await page.waitForTimeout(50);
  }
}

const ada = await browser("ada", { viewport: { width: 1280, height: 860 }, colorScheme: "light" });
const grace = await browser("grace", { viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true });
try {
  await ada.page.getByRole("button", { name: "Show terminal" }).click();
  const panel = ada.page.getByRole("region", { name: "Terminal", exact: true });
  await panel.getByRole("button", { name: "Terminal 1", pressed: true }).waitFor();
  await until(ada.page, "bash-");
  await ada.page.keyboard.type("echo \"seen-$((40+2))\"; printf '\\033[31mred\\033[0m \\033[38;2;12;140;120mtrue\\033[0m\\n'\n");
  await until(ada.page, "seen-42");
  const red = await ada.page.locator(".xterm-rows span", { hasText: /^red/ }).last().evaluate((e) => getComputedStyle(e).color);
  const plain = await ada.page.locator(".xterm-rows").evaluate((e) => getComputedStyle(e).color);
  assert(red !== plain, `colours of programs are shown: ${red} beside ${plain}`);
  const cells = await ada.page.locator(".xterm-rows > div").first().evaluate((e) => getComputedStyle(e).height);
  assert(parseFloat(cells) > 8, `rows have a height: ${cells}`);
  await ada.page.screenshot({ path: join(PICTURES, "terminal-desktop.png") });

  // A keyboard gets out again.
  await ada.page.keyboard.press("Shift+Escape");
  const focused = await ada.page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
  assert(focused === "Hide terminal", `focus is on ${focused}`);

  await grace.page.getByRole("button", { name: "Show terminal" }).click();
  await until(grace.page, "seen-42");
  const keys = grace.page.getByRole("toolbar", { name: "Terminal keys" });
  for (const name of ["Escape", "Tab", "Control", "Left", "Up", "Down", "Right"]) {
    const box = await keys.getByRole("button", { name, exact: true }).boundingBox();
    assert(box !== null && box.height >= 40, `${name} can be touched: ${JSON.stringify(box)}`);
  }
  await grace.page.keyboard.type("sleep 100\n");
  await until(ada.page, "sleep 100");
  await keys.getByRole("button", { name: "Control", exact: true }).click();
  await grace.page.keyboard.type("c");
  await until(grace.page, "^C");
  await keys.getByRole("button", { name: "Up", exact: true }).click();
  await keys.getByRole("button", { name: "Control", exact: true }).click();
  await grace.page.keyboard.type("u");
  await grace.page.keyboard.type("echo phone-$((5+5))\n");
  await until(grace.page, "phone-10");
  await until(ada.page, "phone-10");
  const wide = await grace.page.evaluate(() => document.documentElement.scrollWidth);
  assert(wide <= 390, `the page does not scroll sideways: ${wide}`);
  await grace.page.screenshot({ path: join(PICTURES, "terminal-phone.png") });

  // A second terminal beside the first, and the end of a shell.
  await panel.getByRole("button", { name: "New terminal" }).click();
  await panel.getByRole("button", { name: "Terminal 2", pressed: true }).waitFor();
  await until(ada.page, "bash-");
  await panel.locator(".xterm").click();
  await ada.page.keyboard.type("exit 4\n");
  await panel.getByText("The shell has ended with code 4.").waitFor();
  await ada.page.screenshot({ path: join(PICTURES, "terminal-exited.png") });
  await panel.getByRole("button", { name: "Open it anew" }).click();
  await panel.getByText("The shell has ended with code 4.").waitFor({ state: "hidden" });

  await ada.page.getByRole("button", { name: "Hide terminal" }).first().click();
  await panel.waitFor({ state: "detached" });
  for (const who of [ada, grace]) assert(who.problems.length === 0, `problems of the page: ${who.problems.join("\n")}`);
} catch (error) {
  await ada.page.screenshot({ path: join(PICTURES, "terminal-failed-desktop.png") });
  await grace.page.screenshot({ path: join(PICTURES, "terminal-failed-phone.png") });
  throw error;
} finally {
  await ada.close();
  await grace.close();
}
