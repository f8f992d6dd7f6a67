// The desktop of a sandbox, opened from the session's page with its password.
import { assert, openFromSession, picture, together } from "./people.mjs";

await together("desktop", async (ada) => {
  const { page, password } = await openFromSession(ada, "Desktop");
  assert(password.length === 8, "VNC takes eight letters");
  await page.locator("#noVNC_password_input").fill(password);
  await page.locator("#noVNC_credentials_button").click();
  await page.locator("html.noVNC_connected").waitFor({ state: "attached" });
  const screen = page.locator("#noVNC_container canvas");
  await screen.waitFor();
  const size = await screen.evaluate((canvas) => [canvas.width, canvas.height]);
  assert(size.join() === "1280,720", `the desktop is ${size}`);
  // The window manager has drawn its bar, and no window that complains: nearly all is of the background's colour.
  const drawn = () => screen.evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const pixels = new Uint32Array(data.buffer);
    // As the bytes lie in memory: red, green, blue, all.
    const background = 0xff52423b;
    return { colours: new Set(pixels).size, background: pixels.filter((pixel) => pixel === background).length / pixels.length };
  });
  const deadline = Date.now() + 20_000;
  for (let seen = await drawn(); seen.colours < 8 || seen.background < 0.9; seen = await drawn()) {
    assert(Date.now() < deadline, `the desktop is not as it should be: ${JSON.stringify(seen)}`);
    await page.waitForTimeout(200);
  }
  await page.locator("#noVNC_credentials_dlg").waitFor({ state: "hidden" });
  await picture(page, "desktop");
});
