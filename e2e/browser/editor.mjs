// The editor of a sandbox, opened from the session's page with its password.
import { assert, picture, signIn, together } from "./people.mjs";

const { BASE_URL, SESSION } = process.env;

await together("editor", async (ada) => {
  await ada.context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: BASE_URL });
  await signIn(ada.page, "ada");
  await ada.page.goto(`${BASE_URL}/session/${SESSION}`);
  const link = ada.page.getByRole("list", { name: "Pages of the sandbox" }).getByRole("link", { name: "Editor" });
  await link.waitFor({ timeout: 60_000 });
  const address = new URL(await link.getAttribute("href"));
  await ada.page.getByRole("button", { name: "Copy the password of the editor" }).click();
  const password = await ada.page.evaluate(() => navigator.clipboard.readText());
  assert(password.length === 32 && !address.href.includes(password), "the password is copied, and in no address");
  await picture(ada.page, "editor-link");

  const [page] = await Promise.all([ada.context.waitForEvent("page"), link.click()]);
  page.setDefaultTimeout(60_000);
  const field = page.locator("input[name=password]");
  await field.waitFor();
  // What the address carried is a cookie of that origin now.
  assert(address.search.length > 10 && !page.url().includes(address.search), `it stays in the address: ${page.url()}`);
  await field.fill("not it");
  await page.locator("input[type=submit]").click();
  await page.getByText(/incorrect password/i).waitFor();
  await field.fill(password);
  await page.locator("input[type=submit]").click();
  await page.locator(".monaco-workbench").waitFor();
  await page.locator('.explorer-folders-view [aria-label*="README.md"]').first().waitFor();
  await picture(page, "editor");

  // A file, by the keyboard alone.
  await page.keyboard.press("F1");
  await page.locator(".quick-input-widget input").first().fill(">File: New Untitled Text File");
  await page.locator(".quick-input-list .monaco-list-row").first().waitFor();
  await page.keyboard.press("Enter");
  await page.locator(".editor-instance .monaco-editor").first().waitFor();
  await page.keyboard.type("written-in-the-editor");
  await page.keyboard.press("Control+s");
  // It offers the first words as a name.
  await page.locator(".quick-input-widget input").first().waitFor();
  await page.keyboard.press("Enter");
  await page.locator('.explorer-folders-view [aria-label*="written-in-the-editor"]').first().waitFor();
  await picture(page, "editor-saved");
});
