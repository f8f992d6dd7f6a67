import { memo, useMemo, type ComponentProps } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { CopyButton } from "../../design/CopyButton";
import { markdownBlocks } from "./markdown-blocks";
import styles from "./Markdown.module.css";

const PLUGINS = [remarkGfm];

function textOf(node: unknown): string {
  if (typeof node === "string") return node;
  if (Array.isArray(node)) return node.map(textOf).join("");
  if (typeof node === "object" && node !== null && "props" in node) {
    const { props } = node as { props: { children?: unknown } };
    return textOf(props.children);
  }
  return "";
}

function languageOf(node: unknown): string | undefined {
  if (typeof node !== "object" || node === null || !("props" in node)) return undefined;
  const { className } = (node as { props: { className?: string } }).props;
  return /language-([\w+#.-]+)/.exec(className ?? "")?.[1];
}

function CodeBlock({ children }: ComponentProps<"pre">) {
  const language = languageOf(children);
  return (
    <div className={styles["code"]}>
      <div className={styles["code-bar"]}>
        <span>{language ?? "text"}</span>
        <CopyButton text={textOf(children).replace(/\n$/, "")} label="Copy code" />
      </div>
      {/* Code may be wider than the page: the keyboard must be able to scroll it. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0}>{children}</pre>
    </div>
  );
}

// Raw HTML stays text, and addresses of other schemes than http, https, mailto and the like are dropped by the renderer itself.
const COMPONENTS: Components = {
  a: ({ children, href }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  // A picture would be fetched from wherever the text says; it is offered as a link.
  img: ({ src, alt }) => {
    const words = alt === undefined || alt === "" ? "Picture" : alt;
    if (typeof src !== "string" || src === "") return <>{words}</>;
    return (
      <a href={src} target="_blank" rel="noopener noreferrer nofollow">
        {words}
      </a>
    );
  },
  pre: CodeBlock,
  table: ({ children }) => (
    <div className={styles["table"]}>
      <table>{children}</table>
    </div>
  ),
  // The page's own headings end at the session's title.
  h1: ({ children }) => <h3>{children}</h3>,
  h2: ({ children }) => <h4>{children}</h4>,
  h3: ({ children }) => <h5>{children}</h5>,
  h4: ({ children }) => <h6>{children}</h6>,
  h5: ({ children }) => <h6>{children}</h6>,
};

const Block = memo(function Block({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
      {text}
    </ReactMarkdown>
  );
});

interface MarkdownProps {
  text: string;
  /** It still grows: only its last block is rendered again with each piece. */
  writing: boolean;
}

/** What the agent wrote. */
export const Markdown = memo(function Markdown({ text, writing }: MarkdownProps) {
  const blocks = useMemo(() => (writing ? markdownBlocks(text) : [text]), [text, writing]);
  return (
    <div className={styles["prose"]} data-writing={writing || undefined}>
      {blocks.map((block, index) => (
        <Block key={index} text={block} />
      ))}
    </div>
  );
});
