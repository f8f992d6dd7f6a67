import { useState } from "react";
import { Redirect, useSearchParams } from "wouter";
import { useAccount } from "../app/account";
import { post, sentenceOf } from "../app/api";
import { useAppName, useConfig } from "../app/config";
import { useDocumentTitle } from "../app/title";
import { Button } from "../design/Button";
import { GitHubIcon, GoogleIcon, Mark } from "../design/icons";
import { Notice } from "../design/Notice";
import { Skeleton } from "../design/Skeleton";
import { reasonForPerson } from "./reasons";
import { safePath } from "./safe-path";
import styles from "./SignInPage.module.css";

const PROVIDERS: Record<string, { name: string; icon: React.ReactNode }> = {
  github: { name: "GitHub", icon: <GitHubIcon /> },
  google: { name: "Google", icon: <GoogleIcon /> },
};

export function SignInPage() {
  const account = useAccount();
  const config = useConfig();
  const appName = useAppName();
  const [search] = useSearchParams();
  const [pressed, setPressed] = useState<string>();
  const [failure, setFailure] = useState<string>();
  useDocumentTitle("Sign in");

  const next = safePath(search.get("next"));
  if (account.state === "signed-in") return <Redirect to={next} replace />;

  const refused = reasonForPerson(search.get("error"));
  const signIn = async (provider: string) => {
    setPressed(provider);
    setFailure(undefined);
    try {
      const { url } = await post<{ url: string }>("/api/auth/sign-in/social", {
        provider,
        callbackURL: next,
        disableRedirect: true,
      });
      window.location.assign(url);
    } catch (error) {
      setFailure(sentenceOf(error));
      setPressed(undefined);
    }
  };

  return (
    <main className={styles["page"]} id="main">
      <div className={styles["card"]}>
        <Mark size={44} />
        <h1>{appName}</h1>
        <p className={styles["lead"]}>A coding agent that works in the background and opens pull requests in your name.</p>
        <div className={styles["actions"]}>
          {failure !== undefined ? (
            <Notice tone="bad">{failure}</Notice>
          ) : (
            refused !== undefined && <Notice tone="bad">{refused}</Notice>
          )}
          {config.state === "loading" && <Skeleton widths={[100]} label="Loading the ways to sign in" />}
          {config.state === "failed" && (
            <Notice tone="bad" action={<Button onClick={config.retry}>Try again</Button>}>
              {config.reason}
            </Notice>
          )}
          {config.state === "ready" &&
            config.value.signInProviders.map((provider, index) => (
              <Button
                key={provider}
                look={index === 0 ? "primary" : "plain"}
                wide
                icon={PROVIDERS[provider]?.icon}
                busy={pressed === provider}
                disabled={pressed !== undefined}
                onClick={() => void signIn(provider)}
              >
                Sign in with {PROVIDERS[provider]?.name ?? provider}
              </Button>
            ))}
          {config.state === "ready" && config.value.signInProviders.length === 0 && (
            <Notice tone="busy">No way to sign in is set up. Ask whoever runs this deployment.</Notice>
          )}
        </div>
        <span className="visually-hidden" role="status">
          {pressed === undefined ? "" : `Going to ${PROVIDERS[pressed]?.name ?? pressed} to sign in`}
        </span>
      </div>
    </main>
  );
}
