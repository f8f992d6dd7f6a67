import { useEffect, useRef, useState } from "react";
import { useLocation } from "wouter";
import { useConfig } from "../app/config";
import { sentenceOf } from "../app/api";
import { prepareSessionPage } from "../app/session-page";
import { forget, recall, remember } from "../app/storage";
import { useDocumentTitle } from "../app/title";
import card from "../composer/card.module.css";
import { PromptField } from "../composer/PromptField";
import { Button, IconButton } from "../design/Button";
import { ArrowUpIcon, LockIcon, ModelIcon, RepositoryIcon, SparkIcon } from "../design/icons";
import { Notice } from "../design/Notice";
import { Picker } from "../design/Picker";
import { StatusDot } from "../design/StatusDot";
import { sessionList } from "../session-list/list";
import { Topbar } from "../shell/Topbar";
import { BranchField } from "./BranchField";
import { useChoices, type Choices } from "./choices";
import { abandonSession, createSession, sendFirstPrompt } from "./first-prompt";
import styles from "./NewSessionPage.module.css";
import { WarmDraft } from "./warm-draft";

type Warmth = "none" | "warming" | "warm";

const DRAFT = "draft.new";

export function NewSessionPage() {
  const choices = useChoices();
  const config = useConfig();
  const [, navigate] = useLocation();
  const [text, setText] = useState(() => recall(DRAFT) ?? "");
  const [warmth, setWarmth] = useState<Warmth>("none");
  const [sending, setSending] = useState(false);
  const [failure, setFailure] = useState<string>();
  const [draft] = useState(() => new WarmDraft(createSession, abandonSession, setWarmth));
  const field = useRef<{ focus: () => void }>(null);
  const attempt = useRef<{ key: string; content: string; session: string }>(undefined);
  useDocumentTitle("New session");

  const { target } = choices;
  const typed = text.trim() !== "";
  const targetKey = JSON.stringify(target);
  useEffect(() => {
    if (sending) return;
    if (!typed) return;
    draft.want(target);
    // The target is compared by what it says.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [draft, typed, targetKey, sending]);
  useEffect(() => () => draft.drop(), [draft]);
  useEffect(() => prepareSessionPage(), []);
  useEffect(() => {
    if (window.matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, []);

  const change = (next: string) => {
    setText(next);
    if (next === "") forget(DRAFT);
    else remember(DRAFT, next);
  };
  const send = async () => {
    if (!typed || sending) return;
    if (target === undefined) {
      setFailure(choices.repositories.state === "ready" ? "Choose a repository first." : undefined);
      return;
    }
    setSending(true);
    setFailure(undefined);
    const content = text.trim();
    try {
      const session = await draft.take(target);
      // The same words to the same session go under the same key, however often they are sent.
      if (attempt.current?.content !== content || attempt.current.session !== session) {
        attempt.current = { key: crypto.randomUUID(), content, session };
      }
      await sendFirstPrompt(session, content, attempt.current.key, target);
      draft.consume();
      forget(DRAFT);
      sessionList.changed();
      navigate(`/session/${session}`);
    } catch (error) {
      setFailure(sentenceOf(error));
      setSending(false);
    }
  };

  return (
    <div className={styles["page"]}>
      <Topbar />
      <div className={styles["scroll"]}>
        <div className={styles["column"]}>
          <h1>What should change?</h1>
          <p className={styles["lead"]}>
            The agent works in a sandbox of its own and opens a pull request in your name. You can leave the page meanwhile.
          </p>
          {config.state === "ready" && config.value.demoModel && <DemoModelBanner />}
          {failure !== undefined && <Notice tone="bad">{failure}</Notice>}
          <LoadFailures choices={choices} />
          <form
            className={card["card"]}
            aria-label="New session"
            aria-busy={sending}
            onSubmit={(event) => {
              event.preventDefault();
              void send();
            }}
          >
            <PromptField
              field={field}
              value={text}
              onChange={change}
              onSend={() => void send()}
              label="Prompt"
              placeholder="Describe a change, a bug or a question"
              readOnly={sending}
              rows={4}
            />
            <div className={card["foot"]}>
              <TargetChoices choices={choices} disabled={sending} />
              <IconButton
                type="submit"
                look="primary"
                label={sending ? "Starting the session" : "Start the session"}
                disabled={!typed || sending || target === undefined}
              >
                {sending ? <span className={styles["spinner"]} /> : <ArrowUpIcon size={18} />}
              </IconButton>
            </div>
          </form>
          <p className={styles["below"]} role="status">
            {warmth !== "none" && (
              <>
                <StatusDot tone={warmth === "warm" ? "ok" : "busy"} pulsing={warmth === "warming"} />
                {warmth === "warm" ? "A sandbox starts while you write" : "Preparing a sandbox"}
              </>
            )}
          </p>
        </div>
      </div>
    </div>
  );
}

function TargetChoices({ choices, disabled }: { choices: Choices; disabled: boolean }) {
  const { repositories, models, repository, model } = choices;
  const repos = repositories.state === "ready" ? repositories.value.repos : [];
  const list = models.state === "ready" ? models.value.models : [];
  const efforts = model?.reasoningEfforts ?? [];
  return (
    <div className={card["choices"]}>
      <Picker
        label="Repository"
        icon={<RepositoryIcon />}
        placeholder={repositories.state === "loading" ? "Loading repositories" : "Choose a repository"}
        searchable
        disabled={disabled || repositories.state !== "ready"}
        value={repository?.fullName}
        onChoose={choices.chooseRepository}
        choices={repos.map((each) => ({
          value: each.fullName,
          label: each.fullName,
          hint: each.description ?? undefined,
          icon: each.private ? <LockIcon /> : <RepositoryIcon />,
        }))}
        empty="No repository is open to this deployment. Install its GitHub App on one, then reload."
      />
      {repository !== undefined && (
        <BranchField value={choices.branch} onChange={choices.chooseBranch} defaultBranch={repository.defaultBranch} />
      )}
      <Picker
        label="Model"
        icon={<ModelIcon />}
        placeholder={models.state === "loading" ? "Loading models" : "Choose a model"}
        searchable={list.length > 8}
        disabled={disabled || list.length === 0}
        value={model?.id}
        onChoose={choices.chooseModel}
        choices={list.map((each) => ({ value: each.id, label: each.name, group: each.provider }))}
      />
      {efforts.length > 0 && (
        <Picker
          label="Reasoning effort"
          icon={<SparkIcon />}
          placeholder="Effort"
          disabled={disabled}
          value={choices.effort}
          onChoose={choices.chooseEffort}
          choices={efforts.map((effort) => ({ value: effort, label: effort }))}
        />
      )}
    </div>
  );
}

function LoadFailures({ choices }: { choices: Choices }) {
  return [choices.repositories, choices.models].map((resource, index) =>
    resource.state === "failed" ? (
      <Notice key={index} tone="bad" action={<Button onClick={resource.retry}>Try again</Button>}>
        {index === 0 ? "The repositories" : "The models"} could not be loaded. {resource.reason}
      </Notice>
    ) : null,
  );
}

function DemoModelBanner() {
  return (
    <Notice tone="busy">
      Demo model: scripted answers. Set <code>ANTHROPIC_API_KEY</code>, <code>OPENAI_API_KEY</code> or{" "}
      <code>OPENAI_COMPATIBLE_BASE_URL</code> to use a real model.
    </Notice>
  );
}
