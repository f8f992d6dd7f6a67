import { useState } from "react";
import type { Outcome } from "./connection/connection";

/** Something that is asked of the session and may be refused. */
export function useRequest() {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const ask = (asked: Promise<Outcome>, then?: () => void) => {
    setBusy(true);
    setFailure(undefined);
    void asked.then((outcome) => {
      setBusy(false);
      if (outcome.ok) then?.();
      else if (outcome.code !== "WITHDRAWN") setFailure(outcome.reason);
    });
  };
  return { busy, failure, ask };
}
