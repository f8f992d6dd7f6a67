// The vendors' own clients, against devkit's stand-ins: what they send is let through, and what comes back they can read.
// `node clients.mjs VENDOR '{"url": …, "key": …}'`; prints one JSON line.

const [vendor, text] = process.argv.slice(2);
const at = JSON.parse(text);

function check(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

/** Whether a call fails, as it must. */
async function refused(call) {
  try {
    await call();
  } catch (error) {
    return String(error?.message ?? error);
  }
  throw new Error("it was not refused");
}

const env = { SANDBOX_ID: "sandbox-1", A: "b" };

const drives = {
  async daytona() {
    const { Configuration, SandboxApi, SnapshotsApi } = await import("@daytona/api-client");
    const config = new Configuration({ basePath: at.url, accessToken: at.key });
    const [sandboxes, snapshots] = [new SandboxApi(config), new SnapshotsApi(config)];
    const labels = { openinspect_expected_sandbox_id: "sandbox-1" };
    const made = (await sandboxes.createSandbox({ name: "sandbox-1", snapshot: at.base, env, labels, public: false })).data;
    check(made.state === "started" && made.env.A === "b", `created: ${JSON.stringify(made)}`);
    check((await sandboxes.getSandbox("sandbox-1")).data.id === made.id, "found by its name");
    const preview = (await sandboxes.getSignedPortPreviewUrl(made.id, 3000, undefined, 900)).data;
    check(preview.url.includes("900"), `the client names the time as we do: ${preview.url}`);
    await sandboxes.createSandboxSnapshot(made.id, { name: "kept" });
    for (let tries = 0; (await snapshots.getSnapshot("kept")).data.state !== "active"; tries += 1) {
      check(tries < 5, "the snapshot is made");
    }
    await sandboxes.stopSandbox(made.id);
    check((await sandboxes.getSandbox(made.id)).data.state === "stopped", "stopped");
    await sandboxes.startSandbox(made.id);
    await sandboxes.deleteSandbox(made.id);
    await snapshots.removeSnapshot((await snapshots.getSnapshot("kept")).data.id);
    await refused(() => sandboxes.getSandbox(made.id));
    await refused(() => new SandboxApi(new Configuration({ basePath: at.url, accessToken: "no" })).getSandbox(made.id));
  },

  async e2b() {
    const { Sandbox } = await import("e2b");
    const options = { apiUrl: at.url, sandboxUrl: at.url, apiKey: at.key, requestTimeoutMs: 10_000, validateApiKey: false };
    const metadata = { openinspect_sandbox_id: "sandbox/1 & more" };
    const made = await Sandbox.create(at.base, { ...options, metadata, envs: env, timeoutMs: 600_000 });
    const listed = await Sandbox.list({ ...options, query: { metadata, state: ["running", "paused"] }, limit: 1 }).nextItems();
    check(listed.length === 1 && listed[0].sandboxId === made.sandboxId, `listed: ${JSON.stringify(listed)}`);
    check((await Sandbox.getInfo(made.sandboxId, options)).state === "running", "it runs");
    await made.setTimeout(900_000);
    await Sandbox.pause(made.sandboxId, options);
    check((await Sandbox.getInfo(made.sandboxId, options)).state === "paused", "it is paused");
    const again = await Sandbox.connect(made.sandboxId, { ...options, timeoutMs: 600_000 });
    check(again.sandboxId === made.sandboxId, "it goes on");
    check(await Sandbox.kill(made.sandboxId, options), "it is killed");
    await refused(() => Sandbox.getInfo(made.sandboxId, options));
    await refused(() => Sandbox.create(at.base, { ...options, apiKey: "no" }));
  },

  async vercel() {
    const { Sandbox, Snapshot } = await import("@vercel/sandbox");
    // Its client has no setting for the address.
    const elsewhere = (url, { dispatcher: _, ...init }) => fetch(String(url).replace("https://vercel.com/api", at.url), init);
    const credentials = { token: at.key, projectId: at.project, teamId: at.team, fetch: elsewhere };
    const tags = { openinspect_sandbox_id: "sandbox-1" };
    const source = { type: "snapshot", snapshotId: at.base };
    const made = await Sandbox.create({
      ...credentials, name: "sandbox-1", runtime: "node24", timeout: 600_000, ports: [3000], env, tags, source, persistent: false,
    });
    check(made.domain(3000).startsWith("https://"), `a port has an address: ${made.domain(3000)}`);
    const ran = await made.runCommand({ cmd: "sudo", args: ["-E", "true"], cwd: "/" });
    check(ran.exitCode === 0, "a command that is waited for ends");
    await made.runCommand({ cmd: "sudo", args: ["-E", "true"], detached: true });
    const found = await Sandbox.get({ ...credentials, name: "sandbox-1", resume: false });
    check(found.status === "running", `found: ${found.status}`);
    const kept = await made.snapshot({ expiration: 0 });
    check(kept.status === "created", `kept: ${kept.status}`);
    const listed = await Snapshot.list({ ...credentials, limit: 20, sortOrder: "desc" });
    check(JSON.stringify(listed).includes(kept.snapshotId), "the snapshot is listed");
    await kept.delete();
    await refused(() => Sandbox.create({ ...credentials, token: "no", name: "sandbox-2" }));
  },

  async opencomputer() {
    const { Sandbox } = await import("@opencomputer/sdk");
    const options = { apiUrl: at.url, apiKey: at.key };
    const made = await Sandbox.create({ ...options, snapshot: at.base, envs: env, metadata: { a: "b" }, timeout: 600 });
    check(made.status === "running", `it runs: ${made.status}`);
    check(made.getPreviewDomain(3000) === `${made.sandboxId}-p3000.workers.opencomputer.example`, "a port's host as we build it");
    const ran = await made.exec.run("true");
    check(ran.exitCode === 0, "a script ends");
    const kept = await made.createCheckpoint("kept", { kind: "disk_only", retentionPolicy: { mode: "delete_oldest", maxCount: 30 } });
    check((await made.listCheckpoints()).some((one) => one.id === kept.id), "the checkpoint is listed");
    const fork = await Sandbox.createFromCheckpoint(kept.id, { ...options, envs: env, timeout: 600 });
    check(fork.sandboxId !== made.sandboxId, "another begins with it");
    await made.setTimeout(900);
    await made.hibernate();
    await made.wake({ timeout: 600 });
    await made.deleteCheckpoint(kept.id);
    const preview = await made.createPreviewURL({ port: 3000 });
    check(preview.hostname.includes("3000"), "an address is made");
    await made.kill();
    await fork.kill();
    await refused(() => Sandbox.connect(made.sandboxId, options));
  },
};

await drives[vendor]();
console.log(JSON.stringify({ vendor, ok: true }));
