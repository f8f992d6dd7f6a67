// The main job by hand: two people in two browsers on one session, on a desktop's and a phone's width.
import { assert, picture, signIn, together } from "./people.mjs";

const { BASE_URL } = process.env;

await together("two-browsers", async (ada, grace) => {
  await ada.page.goto(BASE_URL + "/");
  await ada.page.getByRole("button", { name: /github/i }).waitFor();
  await picture(ada.page, "1-sign-in");
  await signIn(ada.page, "ada");

  const prompt = ada.page.getByRole("textbox", { name: /prompt|message|task/i }).first();
  await prompt.waitFor();
  await ada.page.getByText(/demo model/i).first().waitFor();
  await picture(ada.page, "2-home");
  const picker = ada.page.getByRole("combobox", { name: /repositor/i }).or(ada.page.getByRole("button", { name: /repositor/i })).first();
  await picker.click();
  await ada.page.getByRole("option", { name: /sample-service/ }).first().click();
  await prompt.fill('Change the greeting to "Good morning"');
  await picture(ada.page, "3-prompt");
  await prompt.press("Enter");
  await ada.page.waitForURL(/\/session\/[0-9a-f]{32}/);
  const session = ada.page.url();

  await signIn(grace.page, "grace");
  await grace.page.goto(session);
  await grace.page.getByText("Good morning").first().waitFor({ timeout: 60_000 });
  await ada.page.getByText(/Grace Hopper/).or(ada.page.getByTitle(/Grace Hopper/)).or(ada.page.getByLabel(/Grace Hopper/)).first()
    .waitFor({ state: "attached" });
  await picture(ada.page, "4-running");

  for (const who of [ada, grace]) {
    const link = who.page.getByRole("link", { name: /#\d+|pull request/i }).first();
    await link.waitFor({ timeout: 120_000, state: "attached" });
  }
  const link = ada.page.getByRole("link", { name: /#\d+|pull request/i }).first();
  const href = await link.getAttribute("href");
  assert(/\/acme\/sample-service\/pull\/\d+/.test(href), `the link leads to the pull request: ${href}`);
  await ada.page.getByRole("button", { name: /stop/i }).first().waitFor({ state: "hidden", timeout: 60_000 });
  await picture(ada.page, "5-done");
  await picture(grace.page, "6-done-phone-dark");

  // What both see is the same.
  const told = async (who) => (await who.page.getByRole("log").or(who.page.getByRole("feed")).first().innerText()).replace(/\s+/g, " ");
  for (const who of [ada, grace]) assert((await told(who)).includes("Good morning"), "both show the prompt and its work");

  const forge = await ada.context.newPage();
  await forge.goto(href);
  await forge.getByText("Good morning").first().waitFor();
  assert(/Ada Lovelace|ada/.test(await forge.locator("body").innerText()), "the pull request names who sent the prompt");
  await picture(forge, "7-pull-request");

  // A follow-up during a run waits, and stop stops.
  const more = ada.page.getByRole("textbox", { name: /prompt|message|task|follow/i }).first();
  const ask = async (words) => {
    await more.fill(words);
    await more.press("Enter");
  };
  const stop = ada.page.getByRole("button", { name: /^stop$/i });
  await ask("SLOW 3000 and think about it");
  await stop.waitFor({ timeout: 60_000 });
  await ask("LONG and tell me about the repository");
  await ada.page.getByText(/queued|waiting|up next|in line/i).first().waitFor();
  await picture(ada.page, "8-queued");
  await stop.click();
  await ada.page.getByText(/^Stopped after/).waitFor();
  // What waited runs then, to its end.
  await ada.page.getByRole("heading", { name: "16. A closer look" }).waitFor({ timeout: 60_000 });
  await stop.waitFor({ state: "hidden", timeout: 60_000 });
  await picture(ada.page, "9-after-stop");

  // What waits is edited where it stands, and sent long before the run would have ended.
  await ask("SLOW 3000 and think again");
  await stop.waitFor({ timeout: 60_000 });
  await ask("Tell me about the tests");
  await ada.page.getByRole("button", { name: "Edit this prompt" }).click();
  const waiting = ada.page.getByRole("textbox", { name: "The prompt" });
  await waiting.fill("ASK me which greeting");
  await ada.page.getByRole("button", { name: "Save" }).click();
  await ada.page.getByRole("region", { name: "Waiting prompts" }).getByText("ASK me which greeting").waitFor();
  await ada.page.getByRole("button", { name: /send this prompt now/i }).click();

  // The agent asks; the other person answers on her phone, and both see it.
  const question = (who) => who.page.getByRole("region", { name: "The agent asks" }).last();
  await question(ada).getByRole("button", { name: "Hello" }).waitFor({ timeout: 90_000 });
  await picture(ada.page, "10-question");
  await question(grace).getByRole("button", { name: "Hello" }).tap();
  await question(ada).getByText(/Grace Hopper answered/).waitFor();
  await ada.page.getByText(/You answered: .*Hello/).first().waitFor({ timeout: 60_000 });
  await stop.waitFor({ state: "hidden", timeout: 90_000 });
  await picture(grace.page, "11-answered-phone");
});
