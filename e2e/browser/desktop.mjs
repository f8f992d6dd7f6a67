// The desktop of a sandbox, opened from the session's page with its password.
import { assert, picture, signIn, together } from "./people.mjs";

const { BASE_URL, SESSION } = process.env;

await together("desktop", async (ada) => {
  await ada.context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: BASE_URL });
  await signIn(ada.page, "ada");
  await ada.page.goto(`${BASE_URL}/session/${SESSION}`);
  const link = ada.page.getByRole("list", { name: "Pages of the sandbox" }).getByRole("link", { name: "Desktop" });
  await link.waitFor({ timeout: 60_000 });
  await ada.page.getByRole("button", { name: "Copy the password of the desktop" }).click();
  const password = await ada.page.evaluate(() => navigator.clipboard.readText());
  assert(password.length === 8, "VNC takes eight letters");

  const [page] = await Promise.all([ada.context.waitForEvent("page"), link.click()]);
  page.setDefaultTimeout(60_000);
  await page.locator("#noVNC_password_input").fill(password);
  await page.locator("#noVNC_credentials_button").click();
  await page.locator("html.noVNC_connected").waitFor({ state: "attached" });
  const screen = page.locator("#noVNC_container canvas");
  await screen.waitFor();
  const size = await screen.evaluate((canvas) => [canvas.width, canvas.height]);
  assert(size.join() === "1280,720", `the desktop is ${size}`);
  // The window manager has drawn something: not all of it is of one colour.
  const colours = () => screen.evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
  const deadline = Date.now() + 20_000;
  while ((await colours()) < 8) {
    assert(Date.now() < deadline, `the desktop is empty: ${await colours()} colours`);
    await page.waitForTimeout(200);
  }
  await page.locator("#noVNC_credentials_dlg").waitFor({ state: "hidden" });
  await picture(page, "desktop");
});
