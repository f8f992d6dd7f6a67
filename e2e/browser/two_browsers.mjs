// The main job by hand: two people in two browsers on one session, on a desktop's and a phone's width.
//
// Elements are found as a person finds them, by role and name. Pictures are kept for looking at.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { PLAYWRIGHT_CORE, CHROMIUM, BASE_URL, PICTURES } = process.env;
const { chromium } = createRequire(import.meta.url)(PLAYWRIGHT_CORE);

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

function assert(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

async function browser(options) {
  const folder = mkdtempSync(join(tmpdir(), "oi-chromium-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM, headless: true, args: flags, ...options,
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

async function signIn(page, login) {
  await page.goto(BASE_URL + "/");
  await page.getByRole("button", { name: /github/i }).click();
  await page.waitForURL(/login\/oauth\/authorize/);
  await page.getByRole("button", { name: new RegExp(login, "i") }).click();
  await page.waitForURL((url) => url.href.startsWith(BASE_URL) && !url.pathname.startsWith("/login") && !url.pathname.startsWith("/api"));
}

const ada = await browser({ viewport: { width: 1280, height: 860 }, colorScheme: "light" });
const grace = await browser({ viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true });
const picture = (who, name) => who.page.screenshot({ path: join(PICTURES, `${name}.png`) });
try {
  await ada.page.goto(BASE_URL + "/");
  await ada.page.getByRole("button", { name: /github/i }).waitFor();
  await picture(ada, "1-sign-in");
  await signIn(ada.page, "ada");

  const prompt = ada.page.getByRole("textbox", { name: /prompt|message|task/i }).first();
  await prompt.waitFor();
  await ada.page.getByText(/demo model/i).first().waitFor();
  await picture(ada, "2-home");
  const picker = ada.page.getByRole("combobox", { name: /repositor/i }).or(ada.page.getByRole("button", { name: /repositor/i })).first();
  await picker.click();
  await ada.page.getByRole("option", { name: /sample-service/ }).first().click();
  await prompt.fill('Change the greeting to "Good morning"');
  await picture(ada, "3-prompt");
  await prompt.press("Enter");
  await ada.page.waitForURL(/\/session\/[0-9a-f]{32}/);
  const session = ada.page.url();

  await signIn(grace.page, "grace");
  await grace.page.goto(session);
  await grace.page.getByText("Good morning").first().waitFor({ timeout: 60_000 });
  await ada.page.getByText(/Grace Hopper/).or(ada.page.getByTitle(/Grace Hopper/)).or(ada.page.getByLabel(/Grace Hopper/)).first()
    .waitFor({ state: "attached" });
  await picture(ada, "4-running");

  for (const who of [ada, grace]) {
    const link = who.page.getByRole("link", { name: /#\d+|pull request/i }).first();
    await link.waitFor({ timeout: 120_000, state: "attached" });
  }
  const link = ada.page.getByRole("link", { name: /#\d+|pull request/i }).first();
  const href = await link.getAttribute("href");
  assert(/\/acme\/sample-service\/pull\/\d+/.test(href), `the link leads to the pull request: ${href}`);
  await ada.page.getByRole("button", { name: /stop/i }).first().waitFor({ state: "hidden", timeout: 60_000 });
  await picture(ada, "5-done");
  await picture(grace, "6-done-phone-dark");

  // What both see is the same.
  const told = async (who) => (await who.page.getByRole("log").or(who.page.getByRole("feed")).first().innerText()).replace(/\s+/g, " ");
  const [hers, his] = [await told(grace), await told(ada)];
  assert(his.includes("Good morning") && hers.includes("Good morning"), "both show the prompt and its work");

  const forge = await ada.context.newPage();
  await forge.goto(href);
  await forge.getByText("Good morning").first().waitFor();
  assert(/Ada Lovelace|ada/.test(await forge.locator("body").innerText()), "the pull request names who sent the prompt");
  await forge.screenshot({ path: join(PICTURES, "7-pull-request.png") });

  // A follow-up during a run waits, and stop stops.
  const more = ada.page.getByRole("textbox", { name: /prompt|message|task|follow/i }).first();
  await more.fill("SLOW and think about it");
  await more.press("Enter");
  const stop = ada.page.getByRole("button", { name: /^stop/i }).first();
  await stop.waitFor({ timeout: 60_000 });
  await more.fill("LONG: tell me about the repository");
  await more.press("Enter");
  await ada.page.getByText(/queued|waiting|up next|in line/i).first().waitFor();
  await picture(ada, "8-queued");
  // What waits is edited where it stands, and sent before the run has ended.
  await ada.page.getByRole("button", { name: "Edit this prompt" }).click();
  const waiting = ada.page.getByRole("textbox", { name: "The prompt" });
  await waiting.fill("ASK me which greeting");
  await ada.page.getByRole("button", { name: "Save" }).click();
  await ada.page.getByRole("region", { name: "Waiting prompts" }).getByText("ASK me which greeting").waitFor();
  await ada.page.getByRole("button", { name: /send this prompt now/i }).click();
  await ada.page.getByText(/stopped/i).first().waitFor({ timeout: 30_000 });

  // The agent asks; the other person answers on her phone, and both see it.
  const question = (who) => who.page.getByRole("region", { name: "The agent asks" }).last();
  await question(ada).getByRole("button", { name: "Hello" }).waitFor({ timeout: 90_000 });
  await picture(ada, "9-question");
  await question(grace).getByRole("button", { name: "Hello" }).tap();
  await question(ada).getByText(/Grace Hopper answered/).waitFor();
  await ada.page.getByText(/You answered: .*Hello/).first().waitFor({ timeout: 60_000 });
  await stop.waitFor({ state: "hidden", timeout: 90_000 });
  await picture(grace, "10-answered-phone");

  for (const who of [ada, grace]) assert(who.problems.length === 0, `the page reported: ${who.problems.join("; ")}`);
  console.log("two browsers: ok");
} catch (error) {
  await picture(ada, "failed-desktop").catch(() => {});
  await picture(grace, "failed-phone").catch(() => {});
  console.error(error);
  console.error("problems:", ada.problems, grace.problems);
  process.exitCode = 1;
} finally {
  await Promise.allSettled([ada.close(), grace.close()]);
}
