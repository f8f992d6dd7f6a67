import type { AppConfig } from "../protocol.generated";
import { useResource, type Resource } from "./resource";

/** What this deployment is: its name, how to sign in, whether the model is the scripted one. */
export function useConfig(): Resource<AppConfig> {
  return useResource<AppConfig>("/api/config");
}

export const DEFAULT_APP_NAME = "Open-Inspect";

export function useAppName(): string {
  const config = useConfig();
  return config.state === "ready" ? config.value.appName : DEFAULT_APP_NAME;
}
