// The editor of a sandbox, opened at its own address with its password.
import { assert, picture, together } from "./people.mjs";

const { EDITOR_URL, EDITOR_PASSWORD } = process.env;

await together("editor", async ({ page }) => {
  page.setDefaultTimeout(60_000);
  await page.goto(EDITOR_URL);
  // The address's token has become a cookie.
  assert(!page.url().includes(new URL(EDITOR_URL).search.slice(1) || "\u0000"), `the token stays in the address: ${page.url()}`);
  await page.locator("input[name=password]").fill("not it");
  await page.locator("input[type=submit]").click();
  await page.getByText(/incorrect password/i).waitFor();
  await page.locator("input[name=password]").fill(EDITOR_PASSWORD);
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
