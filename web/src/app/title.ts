import { useEffect } from "react";
import { useAppName } from "./config";

/** The title of the browser's tab. */
export function useDocumentTitle(title: string): void {
  const appName = useAppName();
  useEffect(() => {
    document.title = title === "" ? appName : `${title} · ${appName}`;
  }, [title, appName]);
}
