import { Suspense } from "react";
import { Link, Redirect, Route, Switch, useLocation } from "wouter";
import { Button } from "../design/Button";
import { Notice } from "../design/Notice";
import { Skeleton } from "../design/Skeleton";
import { NewSessionPage } from "../new-session/NewSessionPage";
import { Shell } from "../shell/Shell";
import { Topbar } from "../shell/Topbar";
import { SignInPage } from "../sign-in/SignInPage";
import { loadAccount, useAccount } from "./account";
import { ErrorBoundary } from "./ErrorBoundary";
import { SessionPage } from "./session-page";
import styles from "./App.module.css";

export function App() {
  return (
    <Switch>
      <Route path="/login" component={SignInPage} />
      <Route>
        <SignedIn />
      </Route>
    </Switch>
  );
}

function SignedIn() {
  const account = useAccount();
  const [path] = useLocation();
  switch (account.state) {
    case "loading":
      return <span className="visually-hidden" role="status">Loading</span>;
    case "unknown":
      return (
        <main className={styles["middle"]} id="main">
          <Notice tone="bad" action={<Button onClick={() => void loadAccount()}>Try again</Button>}>
            {account.reason}
          </Notice>
        </main>
      );
    case "signed-out":
      return <Redirect to={path === "/" ? "/login" : `/login?next=${encodeURIComponent(path)}`} replace />;
    case "signed-in":
      return (
        <Shell>
          <Switch>
            <Route path="/">
              <ErrorBoundary what="This page">
                <NewSessionPage />
              </ErrorBoundary>
            </Route>
            <Route path="/session/:id">
              {({ id }) => (
                <ErrorBoundary what="This session" key={id}>
                  <Suspense fallback={<LoadingPage />}>
                    <SessionPage id={id} />
                  </Suspense>
                </ErrorBoundary>
              )}
            </Route>
            <Route>
              <NothingHere />
            </Route>
          </Switch>
        </Shell>
      );
  }
}

function LoadingPage() {
  return (
    <div className={styles["middle"]}>
      <Skeleton widths={[40, 90, 75, 82]} label="Loading the session" />
    </div>
  );
}

function NothingHere() {
  return (
    <div>
      <Topbar />
      <div className={styles["middle"]}>
        <h1>There is nothing at this address</h1>
        <p>
          <Link href="/">Start a new session</Link>, or choose one from the list.
        </p>
      </div>
    </div>
  );
}
