import { Component, type ReactNode } from "react";
import { Button } from "../design/Button";
import { Notice } from "../design/Notice";

interface Props {
  /** What is not shown, for the sentence: `The timeline`. */
  what: string;
  children: ReactNode;
}

/** Keeps a fault of one pane in that pane. */
export class ErrorBoundary extends Component<Props, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <Notice
        tone="bad"
        action={
          <>
            <Button onClick={() => this.setState({ failed: false })}>Try again</Button>
            <Button onClick={() => window.location.reload()}>Reload</Button>
          </>
        }
      >
        {this.props.what} cannot be shown because of a fault in this page. The session itself goes on.
      </Notice>
    );
  }
}
