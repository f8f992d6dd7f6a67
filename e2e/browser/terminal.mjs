// Two people at one terminal, in two browsers, on a desktop's and a phone's width.
import { assert, picture, signIn, together } from "./people.mjs";

const { BASE_URL, SESSION } = process.env;

/** What the terminal shows, without the styling of its letters. */
const shown = (page) => page.locator(".xterm-rows").innerText();

async function until(page, text) {
  const deadline = Date.now() + 20_000;
  while (!(await shown(page)).replaceAll("\u00a0", " ").includes(text)) {
    if (Date.now() > deadline) throw new Error(`no "${text}" in: ${await shown(page)}`);
    await page.waitForTimeout(50);
  }
}

await together("terminal", async (ada, grace) => {
  for (const [who, login] of [[ada, "ada"], [grace, "grace"]]) {
    await signIn(who.page, login);
    await who.page.goto(`${BASE_URL}/session/${SESSION}`);
  }

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
  await picture(ada.page, "terminal-desktop");

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
  await picture(grace.page, "terminal-phone");

  // A second terminal beside the first, and the end of a shell.
  await panel.getByRole("button", { name: "New terminal" }).click();
  await panel.getByRole("button", { name: "Terminal 2", pressed: true }).waitFor();
  await until(ada.page, "bash-");
  await panel.locator(".xterm").click();
  await ada.page.keyboard.type("exit 4\n");
  await panel.getByText("The shell has ended with code 4.").waitFor();
  await picture(ada.page, "terminal-exited");
  await panel.getByRole("button", { name: "Open it anew" }).click();
  await panel.getByText("The shell has ended with code 4.").waitFor({ state: "hidden" });
  // The new shell has the keys at once.
  await until(ada.page, "bash-");
  await ada.page.keyboard.type("echo anew-$((3+4))\n");
  await until(ada.page, "anew-7");

  await ada.page.getByRole("button", { name: "Hide terminal" }).first().click();
  await panel.waitFor({ state: "detached" });
});
