// A control plane of canned answers, to work on the page without the rest: `npm run build && npm run mock`, then open the address that
// it prints. It serves dist/ under the page's real policy and speaks enough of the wire (REST, socket in dialect 2) for every state of the page:
// sessions `finished`, `long` (pages of history), `failed`, `booting`, `asking`, `empty`, and any new one, which runs a scripted turn.
// the terminal of each plays a shell. `?signed-out` in the address of /login signs out. Nothing is kept.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";

const PORT = Number(process.env.PORT ?? 8799);
const DIST = process.env.DIST ?? join(fileURLToPath(new URL(".", import.meta.url)), "../dist");
const POLICY = "default-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self' ws: wss:";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2" };
const now = Date.now();
const PEOPLE = {
  ada: { participantId: "a".repeat(32), userId: "1".repeat(32), name: "Ada Lovelace" },
  grace: { participantId: "b".repeat(32), userId: "2".repeat(32), name: "Grace Hopper" },
};
let signedIn = true;

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
const id = () => randomUUID().replaceAll("-", "");

class Session {
  constructor(sessionId, { title = null, status = "created", sandboxStatus = "ready", ageMs = 0 } = {}) {
    this.events = [];
    this.revision = 0;
    this.open = new Map();
    this.queue = [];
    this.artifacts = [];
    this.sockets = new Set();
    this.spawnError = null;
    this.updatedAt = now - ageMs;
    this.info = {
      id: sessionId, title, repoOwner: "acme", repoName: "sample-service", baseBranch: "main", branchName: null, status, sandboxStatus,
      messageCount: title === null ? 0 : 1, createdAt: now - ageMs, model: "anthropic/claude-sonnet-4-6", isProcessing: false,
      parentSessionId: null, totalCost: 0, codeServerUrl: null, vncUrl: null, tunnelUrls: null, ttydUrl: null, sandboxDashboardUrl: null,
      repositories: [], environmentId: null, environmentName: null,
    };
  }

  send(message) {
    for (const socket of this.sockets) socket.send(JSON.stringify(message));
  }

  put(event, eventId = id()) {
    this.revision += 1;
    const known = this.events.find((row) => row.eventId === eventId);
    const row = known ?? { eventId, timelineSequence: this.events.length + 1 };
    Object.assign(row, { revision: this.revision, event: { sandboxId: "sandbox-1", timestamp: Date.now() / 1000, ...event } });
    if (known === undefined) this.events.push(row);
    this.send({ type: "sandbox_event", ...row });
    return row;
  }

  set(part, message) {
    if (part.status !== undefined && part.status !== this.info.status) this.send({ type: "session_status", status: part.status });
    Object.assign(this.info, part);
    this.updatedAt = Date.now();
    this.send(message);
  }

  page(before) {
    const older = this.events.filter((row) => before === undefined || row.timelineSequence < before);
    const events = older.slice(-120);
    const first = events[0];
    const cursor = first === undefined ? null : { timestamp: 0, id: first.eventId, sequence: first.timelineSequence };
    return { events, hasMore: older.length > events.length, cursor };
  }

  subscribed(after) {
    const delta = after !== undefined && after <= this.revision;
    const changed = this.events.filter((row) => row.revision > after);
    return {
      type: "subscribed", dialect: 2, participantId: PEOPLE.ada.participantId, participant: PEOPLE.ada, session: this.info,
      artifacts: this.artifacts, promptQueue: this.queue, spawnError: this.spawnError, revision: this.revision,
      openParts: [...this.open.values()],
      timeline: delta ? { mode: "delta", events: changed, hasMore: false, cursor: null } : { mode: "snapshot", ...this.page() },
    };
  }

  presence() {
    const present = (person, status) => ({ ...person, status, lastSeen: Date.now() });
    return [present(PEOPLE.ada, "active"), ...(this.info.id === "empty" ? [] : [present(PEOPLE.grace, "idle")])];
  }

  async write(messageId, kind, text, pace = 24) {
    const partId = id();
    const part = { messageId, partId, kind, text: "" };
    this.open.set(partId, part);
    for (const piece of text.match(/\S+\s*/g) ?? []) {
      this.send({ type: "batch", messages: [{ type: "part_delta", messageId, partId, kind, offset: part.text.length, text: piece }] });
      part.text += piece;
      if (pace > 0) await pause(pace);
      if (!this.info.isProcessing) break;
    }
    this.open.delete(partId);
    this.revision += 1;
    const timestamp = Date.now() / 1000;
    const row = { eventId: `part:${messageId}:${partId}`, timelineSequence: this.events.length + 1, revision: this.revision };
    this.events.push({ ...row, event: { type: "part", ...part, sandboxId: "sandbox-1", timestamp } });
    this.send({ type: "part_done", messageId, partId, kind, length: part.text.length, ...row, timestamp });
  }

  async tool(messageId, tool, args, output, extra = {}, ms = 700) {
    const callId = id();
    const call = { type: "tool_call", messageId, tool, args, callId, startedAt: Date.now() };
    this.put({ ...call, status: "running" }, callId);
    await pause(ms);
    if (!this.info.isProcessing) return;
    this.put({ ...call, status: "completed", endedAt: call.startedAt + Math.max(ms, 120), output, ...extra }, callId);
  }

  async boot(ms) {
    this.set({ sandboxStatus: "connecting" }, { type: "sandbox_status", status: "connecting" });
    for (const phase of ["workspace", "clone", "setup", "agent"]) {
      const started = { type: "boot_progress", phase, startedAt: Date.now() };
      this.put({ ...started, status: "started" }, `boot-${phase}`);
      await pause(ms);
      this.put({ ...started, status: "completed", durationMs: Date.now() - started.startedAt }, `boot-${phase}`);
    }
    this.put({ type: "ready" });
    this.set({ sandboxStatus: "ready" }, { type: "sandbox_status", status: "ready" });
  }

  enqueue(content, author = PEOPLE.ada) {
    const prompt = { messageId: id(), content, status: "pending", author, createdAt: Date.now() };
    this.queue.push(prompt);
    this.info.messageCount += 1;
    this.send({ type: "prompt_queue_updated", promptQueue: this.queue });
    void this.work();
    return prompt.messageId;
  }

  async work(speed = 1) {
    if (this.working) return;
    this.working = true;
    if (!this.events.some((row) => row.event.type === "ready")) await this.boot(450 * speed);
    for (let prompt = this.queue[0]; prompt !== undefined; prompt = this.queue[0]) {
      prompt.status = "processing";
      this.put({ type: "user_message", messageId: prompt.messageId, content: prompt.content, author: prompt.author });
      this.set({ isProcessing: true, status: "active" }, { type: "processing_status", isProcessing: true });
      if (this.info.title === null) this.set({ title: prompt.content.split("\n")[0].slice(0, 80) }, { type: "session_title", title: prompt.content.slice(0, 80) });
      this.send({ type: "prompt_queue_updated", promptQueue: this.queue });
      await script(this, prompt.messageId, speed);
      this.queue.shift();
      const stopped = !this.info.isProcessing;
      this.put({ type: "execution_complete", messageId: prompt.messageId, success: !stopped, outcome: stopped ? "stopped" : "done" });
      this.set({ isProcessing: false, status: "completed" }, { type: "processing_status", isProcessing: false });
      this.send({ type: "prompt_queue_updated", promptQueue: this.queue });
    }
    this.working = false;
  }
}

const OLD = 'function greet(name) {\n  return "Hello " + name;\n}\n';
const NEW = 'function greet(name) {\n  const who = name?.trim() || "stranger";\n  return `Hello, ${who}!`;\n}\n';
const TESTS =
  "\u001b[1m> node --test\u001b[0m\n\n\u001b[32m✔\u001b[39m greets a person by name \u001b[2m(0.8 ms)\u001b[22m\n\u001b[32m✔\u001b[39m greets a stranger \u001b[2m(0.2 ms)\u001b[22m\n\u001b[32mtests 2\u001b[39m\n\u001b[31mfail 0\u001b[39m\n";

/** One turn as the agent would do it. */
async function script(session, messageId, speed) {
  const at = (ms) => ms * speed;
  const steps = [
    () => session.write(messageId, "reasoning", "The greeting lives in `src/greet.js`. I should look at how it is used before I change it, and at the tests.", at(20)),
    () => session.tool(messageId, "read", { filePath: "src/greet.js" }, OLD, {}, at(350)),
    () => session.tool(messageId, "grep", { pattern: "greet\\(" }, "src/server.js:12\ntest/greet.test.js:4", {}, at(300)),
    () => session.write(messageId, "text", "The greeting fails for an empty name. I will make it polite to strangers and cover that with a test.", at(24)),
    () => session.tool(messageId, "edit", { filePath: "src/greet.js", oldString: OLD, newString: NEW }, "", { fileChange: { path: "src/greet.js", added: 2, removed: 1 } }, at(500)),
    () => session.tool(messageId, "write", { filePath: "test/greet.test.js", content: 'test("greets a stranger", () => {\n  assert.equal(greet("  "), "Hello, stranger!");\n});\n' }, "", { fileChange: { path: "test/greet.test.js", added: 3, removed: 0 } }, at(400)),
    () => session.tool(messageId, "bash", { command: "npm test", description: "Run the tests" }, TESTS, { exitCode: 0 }, at(1800)),
    () => session.tool(messageId, "oi_create-pull-request", { title: "Greet strangers politely" }, "Opened #7", {}, at(700)),
    () => {
      const pr = { number: 7, title: "Greet strangers politely", state: "open", head: `open-inspect/${session.info.id.slice(0, 8)}`, base: "main", repoOwner: "acme", repoName: "sample-service", draft: false };
      const artifact = { id: id(), type: "pr", url: "https://github.com/acme/sample-service/pull/7", metadata: pr, createdAt: Date.now() };
      session.put({ type: "push_complete", branchName: pr.head, repoOwner: "acme", repoName: "sample-service" });
      session.set({ branchName: pr.head }, { type: "session_branch", branchName: pr.head, repoOwner: "acme", repoName: "sample-service" });
      session.put({ type: "artifact", artifactType: "pr", artifactId: artifact.id, url: artifact.url, metadata: pr, messageId });
      session.artifacts = [artifact];
      session.send({ type: "artifact_created", artifact });
    },
    () => session.write(messageId, "text", "`greet` now handles **empty names**:\n\n- a blank or missing name becomes *stranger*\n- the tests cover both cases and pass\n\n```js\ngreet(\"  \"); // \"Hello, stranger!\"\n```\n\nThe pull request is open for review.", at(24)),
  ];
  for (const step of steps) {
    if (!session.info.isProcessing) return;
    await step();
    session.info.totalCost += 0.0042;
    session.send({ type: "sandbox_event", event: { type: "step_finish", messageId, cost: 0.0042, sandboxId: "sandbox-1", timestamp: Date.now() / 1000 } });
  }
}

const sessions = new Map();
async function prepare() {
  const add = (name, options) => {
    const session = new Session(name, options);
    sessions.set(name, session);
    return session;
  };
  add("booting", { title: "Upgrade the HTTP client", status: "active", sandboxStatus: "connecting", ageMs: 20_000 });
  const booting = sessions.get("booting");
  booting.working = true;
  for (const [phase, status, durationMs] of [["workspace", "completed", 310], ["clone", "completed", 2140], ["setup", "started"]]) {
    booting.put({ type: "boot_progress", phase, status, startedAt: Date.now() - 3_000, ...(durationMs === undefined ? {} : { durationMs }), ...(phase === "clone" ? { detail: "acme/sample-service at main" } : {}) });
  }
  booting.queue.push({ messageId: id(), content: "Upgrade the HTTP client to the newest version and fix what breaks.", status: "pending", author: PEOPLE.grace, createdAt: now });
  booting.queue.push({ messageId: id(), content: "Then bump our own version, too.", status: "pending", author: PEOPLE.ada, createdAt: now });

  const asking = add("asking", { title: "Choose a greeting", status: "active", ageMs: 60_000 });
  const asked = id();
  asking.working = true;
  asking.info.isProcessing = true;
  asking.put({ type: "user_message", messageId: asked, content: "Make the greeting friendlier. Ask me which one.", author: PEOPLE.ada, timestamp: now / 1000 - 30 });
  const question = (requestId, rest) => asking.put({ type: "input_request", requestId, messageId: asked, kind: "question", ...rest }, requestId);
  question("q0", { prompt: "Is the greeting shown to people who are not signed in?", options: ["Yes", "No"], state: "answered", answer: "Yes", answeredBy: PEOPLE.grace });
  question("q1", { prompt: "Which greeting should the service use?", options: ["Hello", "Good morning", "A longer one that says who it greets, at what time of the day, and why it is glad to see them"], state: "waiting" });
  asking.queue.push({ messageId: id(), content: "Then translate it into French.", status: "pending", author: PEOPLE.grace, createdAt: now });
  asking.queue.push({ messageId: id(), content: "And write a test for both languages.", status: "pending", author: PEOPLE.ada, createdAt: now });

  const finished = add("finished", { title: "Greet strangers politely", ageMs: 180_000 });
  finished.queue.push({ messageId: id(), content: "Our greeting breaks when the name is blank. Please make it friendly to strangers, with a test.", status: "pending", author: PEOPLE.ada, createdAt: now });
  await finished.work(0);

  const failed = add("failed", { title: "Migrate the invoices table to the new schema without downtime, keeping both columns in step", ageMs: 7_200_000 });
  const failing = id();
  failed.put({ type: "user_message", messageId: failing, content: "Migrate the invoices table.", author: PEOPLE.grace, timestamp: now / 1000 - 90 });
  failed.put({ type: "warning", scope: "setup", message: "The set-up script of acme/sample-service ended with code 1. The session goes on without it." });
  failed.put({ type: "tool_call", messageId: failing, tool: "bash", args: { command: "psql -f migrate.sql" }, callId: id(), status: "completed", output: "psql: error: connection to server at \"db\" failed: Connection refused\n", exitCode: 2, startedAt: now - 60_000, endedAt: now - 58_800 });
  failed.put({ type: "tool_call", messageId: failing, tool: "read", args: { filePath: "db/secret.env" }, callId: id(), status: "error", error: "File not found: db/secret.env" });
  failed.put({ type: "push_error", error: "remote: Permission to acme/sample-service.git denied.", branchName: "open-inspect/4f1c" });
  failed.put({ type: "error", messageId: failing, error: "The model's provider answered 529: overloaded." });
  failed.put({ type: "execution_complete", messageId: failing, success: false, outcome: "failed", error: "The agent gave up after 5 attempts to reach its model." });
  Object.assign(failed.info, { status: "failed", sandboxStatus: "failed", totalCost: 1.3141 });
  failed.spawnError = "No sandbox slot was free on this machine for 60 s. Stop another session or raise the limit.";

  const long = add("long", { title: "Refactor the payment module", status: "completed", ageMs: 86_400_000 });
  for (let turn = 1; turn <= 60; turn += 1) {
    const messageId = id();
    long.put({ type: "user_message", messageId, content: `Step ${turn}: move one more module out of the monolith.`, author: turn % 2 === 0 ? PEOPLE.ada : PEOPLE.grace, timestamp: now / 1000 - (61 - turn) * 600 });
    for (const file of ["a", "b", "c", "d"]) long.put({ type: "tool_call", messageId, tool: "read", args: { filePath: `src/payments/${file}.ts` }, callId: id(), status: "completed", output: "…" });
    long.put({ type: "tool_call", messageId, tool: "edit", args: { filePath: `src/payments/${turn}.ts`, oldString: "old", newString: "new" }, callId: id(), status: "completed", fileChange: { path: `src/payments/a-rather-long-folder-name/module-${turn}.ts`, added: turn, removed: turn % 7 } });
    long.put({ type: "tool_call", messageId, tool: "bash", args: { command: "cargo test --workspace --all-features -- --nocapture --test-threads=2 | tee target/test.log" }, callId: id(), status: "completed", output: Array.from({ length: 200 }, (_, line) => `test payments::case_${line} ... ok`).join("\n"), exitCode: 0, startedAt: now, endedAt: now + 81_000 });
    long.put({ type: "part", messageId, partId: id(), kind: "text", text: `Module ${turn} now stands on its own.\n\n| check | result |\n| --- | --- |\n| unit tests | pass |\n| types | pass |\n\n> One public function was renamed; all callers were updated.` });
    long.put({ type: "execution_complete", messageId, success: true, outcome: "done", timestamp: now / 1000 - (61 - turn) * 600 + 130 });
  }
  Object.assign(long.info, {
    codeServerUrl: "http://p8080-mock.localhost:9000/?token=t", vncUrl: "http://p6080-mock.localhost:9000/?token=t",
    tunnelUrls: { 3000: "http://p3000-mock.localhost:9000/?token=t", 5173: "http://p5173-mock.localhost:9000/?token=t" },
  });
  add("empty", { title: null, sandboxStatus: "pending" });
  for (let index = 1; index <= 40; index += 1) {
    const status = ["completed", "completed", "failed", "archived", "active"][index % 5];
    add(`past-${index}`, { title: `Earlier piece of work number ${index}`, status, ageMs: index * 9_000_000 });
  }
}

function listItem(session) {
  const { info, updatedAt, artifacts } = session;
  return { ...info, status: info.isProcessing ? "active" : info.status, updatedAt, prCount: artifacts.length, spawnSource: "user", spawnDepth: 0, reasoningEffort: null, automationId: null, automationRunId: null, scmLogin: "ada", userId: PEOPLE.ada.userId, activeDurationMs: 0 };
}

const REPOSITORIES = [
  ["sample-service", "The greeting service", true], ["billing", "Invoices and payments", true], ["docs", null, false],
  ["a-repository-with-a-name-that-goes-on-and-on", "Long names happen", false],
].map(([name, description, isPrivate], index) => ({ id: index + 1, owner: "acme", name, fullName: `acme/${name}`, description, private: isPrivate, defaultBranch: "main" }));
const MODELS = [
  { id: "anthropic/claude-sonnet-4-6", name: "Claude Sonnet 4.6", provider: "Anthropic", reasoningEfforts: ["low", "medium", "high", "max"], demo: false },
  { id: "anthropic/claude-haiku-4-5", name: "Claude Haiku 4.5", provider: "Anthropic", reasoningEfforts: [], demo: false },
  { id: "openai/gpt-5.5", name: "GPT-5.5", provider: "OpenAI", reasoningEfforts: ["low", "high"], demo: false },
];

async function answer(request, url, body) {
  const route = `${request.method} ${url.pathname}`;
  const failing = url.pathname === "/api/repos" && process.env.MOCK_FAIL === "repos";
  if (failing) return [503, { error: "GitHub did not answer in time. Try again.", code: "UPSTREAM_FAILED", requestId: id() }];
  const match = /^\/api\/sessions\/([^/]+)(?:\/([\w-]+))?$/.exec(url.pathname);
  if (route === "GET /api/config") return [200, { appName: "Open-Inspect", signInProviders: ["github"], demoModel: process.env.MOCK_DEMO !== "0" }];
  if (route === "GET /api/auth/get-session") return [200, signedIn ? { user: { id: PEOPLE.ada.userId, name: PEOPLE.ada.name }, session: {} } : null];
  if (route === "POST /api/auth/sign-in/social") { signedIn = true; return [200, { url: body.callbackURL }]; }
  if (route === "POST /api/auth/sign-out") { signedIn = false; return [200, { success: true }]; }
  if (!signedIn) return [401, { error: "Sign in first.", code: "UNAUTHORIZED" }];
  if (route === "GET /api/repos") return [200, { repos: REPOSITORIES, cached: false, cachedAt: new Date().toISOString() }];
  if (route === "GET /api/models") return [200, { models: MODELS, defaultModel: MODELS[0].id }];
  if (route === "GET /api/sessions") {
    const [limit, offset] = [Number(url.searchParams.get("limit") ?? 50), Number(url.searchParams.get("offset") ?? 0)];
    const all = process.env.MOCK_EMPTY === "1" ? [] : [...sessions.values()].map(listItem).sort((one, other) => other.updatedAt - one.updatedAt);
    return [200, { sessions: all.slice(offset, offset + limit), hasMore: all.length > offset + limit }];
  }
  if (route === "POST /api/sessions") {
    const session = new Session(id());
    Object.assign(session.info, { repoOwner: body.repoOwner, repoName: body.repoName });
    sessions.set(session.info.id, session);
    return [201, { sessionId: session.info.id, status: "created" }];
  }
  const session = match === null ? undefined : sessions.get(match[1]);
  if (session === undefined) return [404, { error: "There is no such session.", code: "NOT_FOUND" }];
  if (match[2] === "sandbox-access") {
    if (process.env.MOCK_FAIL === "access") return [503, { error: "The session did not answer in time. Try again.", code: "UPSTREAM_FAILED", requestId: id() }];
    const page = (url) => (url === null ? null : { url, password: "hunter2-hunter2" });
    return [200, { codeServer: page(session.info.codeServerUrl), vnc: page(session.info.vncUrl), ttyd: null }];
  }
  if (match[2] === "ws-token") return [200, { token: "0".repeat(64), participantId: PEOPLE.ada.participantId }];
  if (match[2] === "prompt") return [200, { messageId: session.enqueue(body.content), status: "queued" }];
  if (match[2] === "archive") return [200, { status: "archived" }];
  return [404, { error: "There is no such route.", code: "NOT_FOUND" }];
}

async function serveFile(pathname, response) {
  const path = normalize(join(DIST, pathname));
  const inside = path.startsWith(DIST) && extname(path) !== "";
  const file = await readFile(inside ? path : join(DIST, "index.html")).catch(() => undefined);
  response.writeHead(file === undefined ? 404 : 200, { "Content-Type": TYPES[inside ? extname(path) : ".html"] ?? "application/octet-stream", "Content-Security-Policy": POLICY });
  response.end(file);
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://mock");
  if (url.pathname === "/login" && url.searchParams.has("signed-out")) signedIn = false;
  if (!url.pathname.startsWith("/api/")) return void serveFile(url.pathname, response);
  let text = "";
  request.on("data", (chunk) => (text += chunk));
  request.on("end", async () => {
    const [status, body] = await answer(request, url, text === "" ? undefined : JSON.parse(text));
    await pause(Number(process.env.MOCK_DELAY ?? 0));
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  });
});

/** A shell that knows `echo`, `colours` and `exit`: what is typed runs nothing on this machine. */
function playTerminal(socket) {
  const tell = (event) => socket.send(JSON.stringify(event));
  const write = (text) => socket.send(Buffer.from(text));
  let [line, terminal, running] = ["", 0, []];
  const run = (words) => {
    if (words.startsWith("echo ")) write(`${words.slice(5)}\r\n`);
    else if (words === "colours") write("\x1b[31mred\x1b[32m green\x1b[33m yellow\x1b[34m blue\x1b[0m \x1b[38;2;12;140;120mtrue colour\x1b[0m\r\n");
    else if (words.startsWith("exit")) {
      running = running.filter((number) => number !== terminal);
      tell({ type: "exited", terminal, code: Number(words.split(" ")[1] ?? 0) });
      return tell({ type: "sandbox", reachable: true, running });
    } else if (words !== "") write(`bash: ${words}: command not found\r\n`);
    write("agent@sandbox:/workspace/sample-service$ ");
  };
  socket.on("message", (data, isBinary) => {
    if (isBinary) {
      for (const key of String(data)) {
        if (key === "\r") {
          write("\r\n");
          const words = line.trim();
          line = "";
          run(words);
        } else if (key === "\x03") { line = ""; write("^C\r\n"); run(""); }
        else { line += key; write(key); }
      }
      return;
    }
    const message = JSON.parse(String(data));
    if (message.type === "ping") tell({ type: "pong" });
    if (message.type === "resize") tell({ type: "resized", size: message.size });
    if (message.type === "open") {
      terminal = message.terminal;
      running = [...new Set([...running, terminal])];
      tell({ type: "sandbox", reachable: true, running });
      tell({ type: "opened", terminal, size: message.size, started: true });
      write("agent@sandbox:/workspace/sample-service$ ");
    }
  });
  tell({ type: "sandbox", reachable: true, running });
}

const sockets = new WebSocketServer({ server });
sockets.on("connection", (socket, request) => {
  if (request.url?.endsWith("/terminal")) return playTerminal(socket);
  const session = sessions.get(/^\/sessions\/([^/]+)\/ws$/.exec(request.url ?? "")?.[1] ?? "");
  if (session === undefined) return socket.close(4009, "Session synchronization failed");
  const reply = (message) => socket.send(JSON.stringify(message));
  socket.on("close", () => session.sockets.delete(socket));
  socket.on("message", (data) => {
    const message = JSON.parse(String(data));
    if (message.type === "ping") reply({ type: "pong", timestamp: Date.now() });
    if (message.type === "subscribe") {
      session.sockets.add(socket);
      reply(session.subscribed(message.afterRevision));
      reply({ type: "presence_sync", participants: session.presence() });
      if (session.info.id === "booting") {
        const typing = setInterval(() => reply({ type: "typing", participantId: PEOPLE.grace.participantId, name: PEOPLE.grace.name }), 2_000);
        socket.on("close", () => clearInterval(typing));
      }
    }
    if (message.type === "prompt") reply({ type: "prompt_queued", clientRequestId: message.clientRequestId, messageId: session.enqueue(message.content), position: session.queue.length });
    if (message.type === "cancel_prompt") {
      session.queue = session.queue.filter((prompt) => prompt.messageId !== message.messageId);
      reply({ type: "prompt_cancelled", clientRequestId: message.clientRequestId, messageId: message.messageId });
      session.send({ type: "prompt_queue_updated", promptQueue: session.queue });
    }
    if (message.type === "edit_prompt") {
      session.queue = session.queue.map((prompt) => (prompt.messageId === message.messageId ? { ...prompt, content: message.content } : prompt));
      reply({ type: "prompt_edited", clientRequestId: message.clientRequestId, messageId: message.messageId });
      session.send({ type: "prompt_queue_updated", promptQueue: session.queue });
    }
    if (message.type === "reorder_prompts") {
      // What runs stays first, and what is not named goes behind what is.
      const named = message.messageIds.flatMap((wanted) => session.queue.filter((prompt) => prompt.messageId === wanted && prompt.status === "pending"));
      const first = [...session.queue.filter((prompt) => prompt.status === "processing"), ...named];
      session.queue = [...first, ...session.queue.filter((prompt) => !first.includes(prompt))];
      reply({ type: "prompts_reordered", clientRequestId: message.clientRequestId });
      session.send({ type: "prompt_queue_updated", promptQueue: session.queue });
    }
    if (message.type === "input_response") {
      const row = session.events.find((each) => each.eventId === message.requestId);
      reply({ type: "input_accepted", clientRequestId: message.clientRequestId, requestId: message.requestId });
      if (row !== undefined) session.put({ ...row.event, state: "answered", answer: message.answer, answeredBy: PEOPLE.ada }, message.requestId);
    }
    if (message.type === "stop") session.set({ isProcessing: false }, { type: "processing_status", isProcessing: false });
    if (message.type === "fetch_history") setTimeout(() => { const { events, ...page } = session.page(message.cursor.sequence); reply({ type: "history_page", items: events, ...page }); }, 150);
  });
});

await prepare();
server.listen(PORT, "127.0.0.1", () => process.stdout.write(`http://127.0.0.1:${PORT}\n`));
