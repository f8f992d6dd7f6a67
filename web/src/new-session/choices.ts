import { useState } from "react";
import { recall, remember } from "../app/storage";
import { useResource, type Resource } from "../app/resource";
import type { ModelInfo, ModelList, Repository, RepositoryList } from "../protocol.generated";
import type { Target } from "./warm-draft";

export interface Choices {
  repositories: Resource<RepositoryList>;
  models: Resource<ModelList>;
  repository: Repository | undefined;
  branch: string;
  model: ModelInfo | undefined;
  effort: string | undefined;
  target: Target | undefined;
  chooseRepository: (fullName: string) => void;
  chooseBranch: (branch: string) => void;
  chooseModel: (id: string) => void;
  chooseEffort: (effort: string) => void;
}

/** Where the next session works and with which model: what was chosen last, while it still exists. */
export function useChoices(): Choices {
  const repositories = useResource<RepositoryList>("/api/repos");
  const models = useResource<ModelList>("/api/models");
  const [repositoryName, setRepositoryName] = useState(() => recall("repository"));
  const [branch, setBranch] = useState("");
  const [modelId, setModelId] = useState(() => recall("model"));
  const [wantedEffort, setWantedEffort] = useState(() => recall("effort"));

  const repos = repositories.state === "ready" ? repositories.value.repos : [];
  const repository = repos.find((each) => each.fullName === repositoryName) ?? (repos.length === 1 ? repos[0] : undefined);
  const list = models.state === "ready" ? models.value : undefined;
  const model =
    list?.models.find((each) => each.id === modelId) ??
    list?.models.find((each) => each.id === list.defaultModel) ??
    list?.models[0];
  const effort = model?.reasoningEfforts.find((each) => each === wantedEffort);
  const base = branch.trim();

  return {
    repositories,
    models,
    repository,
    branch,
    model,
    effort,
    target:
      repository === undefined || models.state === "loading"
        ? undefined
        : {
            repoOwner: repository.owner,
            repoName: repository.name,
            branch: base === "" || base === repository.defaultBranch ? undefined : base,
            model: model?.id,
            reasoningEffort: effort,
          },
    chooseRepository: (fullName) => {
      setRepositoryName(fullName);
      setBranch("");
      remember("repository", fullName);
    },
    chooseBranch: setBranch,
    chooseModel: (id) => {
      setModelId(id);
      remember("model", id);
    },
    chooseEffort: (next) => {
      setWantedEffort(next);
      remember("effort", next);
    },
  };
}
