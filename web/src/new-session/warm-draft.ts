/** What a session is created for. */
export interface Target {
  repoOwner: string;
  repoName: string;
  branch: string | undefined;
  model: string | undefined;
  reasoningEffort: string | undefined;
}

interface Draft {
  key: string;
  session: Promise<string>;
  controller: AbortController;
}

/** Wait for this long without another change before a session is created, in ms. */
const SETTLE_MS = 350;

/**
 * A session created while its first prompt is still being typed, so that its sandbox is warm by the time it is sent. There is one
 * for each target; a change of the target abandons it, and so does leaving the page.
 */
export class WarmDraft {
  private draft: Draft | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly create: (target: Target, signal: AbortSignal) => Promise<string>,
    private readonly abandon: (session: string) => void,
    private readonly changed: (state: "none" | "warming" | "warm") => void,
  ) {}

  /** Somebody types for this target; `undefined` when there is none yet. */
  want(target: Target | undefined): void {
    clearTimeout(this.timer);
    if (target === undefined) {
      this.drop();
      return;
    }
    if (this.draft?.key === keyOf(target)) return;
    this.drop();
    this.timer = setTimeout(() => this.start(target), SETTLE_MS);
  }

  /** The session to send the first prompt to. It belongs to the caller from then on, unless `keep` is called. */
  async take(target: Target): Promise<string> {
    clearTimeout(this.timer);
    if (this.draft?.key !== keyOf(target)) {
      this.drop();
      this.start(target);
    }
    const { draft } = this;
    if (draft === undefined) throw new Error("a draft was just started");
    try {
      return await draft.session;
    } catch (error) {
      if (!draft.controller.signal.aborted) throw error;
      // It was abandoned while it was awaited: make another.
      return this.take(target);
    }
  }

  /** The first prompt reached the session: it is no draft any more. */
  consume(): void {
    clearTimeout(this.timer);
    this.draft = undefined;
  }

  /** The page is left. */
  drop(): void {
    clearTimeout(this.timer);
    const { draft } = this;
    if (draft === undefined) return;
    this.draft = undefined;
    draft.controller.abort();
    draft.session.then(this.abandon, () => undefined);
    this.changed("none");
  }

  private start(target: Target): void {
    const controller = new AbortController();
    const draft: Draft = { key: keyOf(target), controller, session: this.create(target, controller.signal) };
    this.draft = draft;
    this.changed("warming");
    draft.session.then(
      () => {
        if (this.draft === draft) this.changed("warm");
      },
      () => {
        // Warming is a courtesy: its failure is told when the prompt is sent, which tries again.
        if (this.draft !== draft) return;
        this.draft = undefined;
        this.changed("none");
      },
    );
  }
}

function keyOf(target: Target): string {
  const { repoOwner, repoName, branch, model, reasoningEffort } = target;
  return JSON.stringify([repoOwner, repoName, branch ?? null, model ?? null, reasoningEffort ?? null]);
}
