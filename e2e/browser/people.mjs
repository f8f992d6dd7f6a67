// Ada at a desktop and Grace at a phone: what the scripts of this folder share.
//
// Elements are found as a person finds them, by role and name. Pictures are kept for looking at.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { PLAYWRIGHT_CORE, CHROMIUM, BASE_URL, PICTURES, SESSION } = process.env;
const { chromium } = createRequire(import.meta.url)(PLAYWRIGHT_CORE);

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const DESKTOP = { viewport: { width: 1280, height: 860 }, colorScheme: "light" };
const PHONE = { viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true };

export function assert(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

/** Keeps what a page shows. */
export const picture = (page, name) => page.screenshot({ path: join(PICTURES, `${name}.png`) });

export async function signIn(page, login) {
  await page.goto(BASE_URL + "/");
  await page.getByRole("button", { name: /github/i }).click();
  await page.waitForURL(/login\/oauth\/authorize/);
  await page.getByRole("button", { name: new RegExp(login, "i") }).click();
  await page.waitForURL((url) => url.href.startsWith(BASE_URL) && !url.pathname.startsWith("/login") && !url.pathname.startsWith("/api"));
}

/** Somebody with a browser of their own, not signed in yet. */
async function person(options) {
  const folder = mkdtempSync(join(tmpdir(), "oi-chromium-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM, headless: true, args: FLAGS, ...options,
  });
  context.setDefaultTimeout(30_000);
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) problems.push(message.text());
  });
  return { context, page, problems, close: async () => { await context.close(); rmSync(folder, { recursive: true, force: true }); } };
}

/** Opens a page of the sandbox, such as its editor, as a person does: from the session's page, with the password copied there. */
export async function openFromSession(who, name) {
  await who.context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: BASE_URL });
  await signIn(who.page, "ada");
  await who.page.goto(`${BASE_URL}/session/${SESSION}`);
  const link = who.page.getByRole("list", { name: "Pages of the sandbox" }).getByRole("link", { name });
  await link.waitFor({ timeout: 60_000 });
  const address = new URL(await link.getAttribute("href"));
  await who.page.getByRole("button", { name: `Copy the password of the ${name.toLowerCase()}` }).click();
  const password = await who.page.evaluate(() => navigator.clipboard.readText());
  await picture(who.page, `${name.toLowerCase()}-link`);
  const [page] = await Promise.all([who.context.waitForEvent("page"), link.click()]);
  page.setDefaultTimeout(60_000);
  return { page, address, password };
}

/** Has both do something; fails this process when it fails, or when a page had problems of its own. */
export async function together(name, what) {
  const ada = await person(DESKTOP);
  const grace = await person(PHONE);
  try {
    await what(ada, grace);
    for (const { problems } of [ada, grace]) assert(problems.length === 0, `the page reported: ${problems.join("; ")}`);
    console.log(`${name}: ok`);
  } catch (error) {
    await picture(ada.page, `${name}-failed-desktop`).catch(() => {});
    await picture(grace.page, `${name}-failed-phone`).catch(() => {});
    console.error(error);
    console.error("problems:", ada.problems, grace.problems);
    process.exitCode = 1;
  } finally {
    await Promise.allSettled([ada.close(), grace.close()]);
  }
}
