// The editor of a sandbox, opened from the session's page with its password.
import { assert, openFromSession, picture, together } from "./people.mjs";

await together("editor", async (ada) => {
  const { page, address, password } = await openFromSession(ada, "Editor");
  assert(password.length === 32 && !address.href.includes(password), "the password is copied, and in no address");
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
