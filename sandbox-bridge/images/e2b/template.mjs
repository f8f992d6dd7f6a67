// The template of sandboxes at E2B: `node template.mjs <folder> <name>` builds it, where the folder has
// `sandbox-bridge` and the name is E2B_TEMPLATE_ID.
//
// Written by `cargo xtask images` from contents.toml. Not to be edited.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Template, waitForTimeout } from "e2b";

const dockerfile = readFileSync(new URL("../Dockerfile", import.meta.url), "utf8");

// A machine that waits: the control plane starts the runtime in it.
export const template = (folder) =>
  Template({ fileContextPath: folder }).fromDockerfile(dockerfile).setStartCmd("sleep infinity", waitForTimeout(1_000));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder, name] = process.argv.slice(2);
  await Template.build(template(folder), name, { cpuCount: 2, memoryMB: 4096 });
}
