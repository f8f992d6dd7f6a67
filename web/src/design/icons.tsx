import type { ReactNode } from "react";

/** Drawn on a 20 by 20 grid with a 1.6 stroke in the colour of the text. Decorative: the control has the name. */
function draw(content: ReactNode) {
  return function Icon({ size = 16, className }: { size?: number; className?: string | undefined }) {
    return (
      <svg
        className={className}
        width={size}
        height={size}
        viewBox="0 0 20 20"
        fill="none"
        stroke="currentColor"
        strokeWidth={1.6}
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
        focusable="false"
      >
        {content}
      </svg>
    );
  };
}

export const PlusIcon = draw(<path d="M10 4.5v11M4.5 10h11" />);
export const CloseIcon = draw(<path d="m5.5 5.5 9 9m0-9-9 9" />);
export const CheckIcon = draw(<path d="m4.5 10.5 3.8 3.8 7.2-8.3" />);
export const ChevronDownIcon = draw(<path d="m5.5 8 4.5 4.5L14.5 8" />);
export const ChevronRightIcon = draw(<path d="m8 5.5 4.5 4.5L8 14.5" />);
export const ArrowUpIcon = draw(<path d="M10 16V4.5M5 9.2l5-4.9 5 4.9" />);
export const SkipAheadIcon = draw(<path d="m5 5 7 5-7 5V5Zm9.5 0v10" />);
export const ArrowDownIcon = draw(<path d="M10 4v11.5m5-4.7-5 4.9-5-4.9" />);
export const StopIcon = draw(<rect x="5.5" y="5.5" width="9" height="9" rx="1.5" fill="currentColor" />);
export const SearchIcon = draw(
  <>
    <circle cx="9" cy="9" r="4.8" />
    <path d="m12.7 12.7 3.3 3.3" />
  </>,
);
export const MenuIcon = draw(<path d="M3.5 6h13M3.5 10h13M3.5 14h13" />);
export const PanelIcon = draw(
  <>
    <rect x="3" y="4" width="14" height="12" rx="2" />
    <path d="M12.2 4v12" />
  </>,
);
export const FileIcon = draw(<path d="M11.5 3H6.2a1.2 1.2 0 0 0-1.2 1.2v11.6A1.2 1.2 0 0 0 6.2 17h7.6a1.2 1.2 0 0 0 1.2-1.2V6.5L11.5 3Zm0 0v3.5H15" />);
export const PencilIcon = draw(<path d="m4 16 .8-3.4 8.3-8.3a1.4 1.4 0 0 1 2 0l.6.6a1.4 1.4 0 0 1 0 2l-8.3 8.3L4 16Zm7.8-10.4 2.6 2.6" />);
export const TerminalIcon = draw(
  <>
    <rect x="2.8" y="3.8" width="14.4" height="12.4" rx="2" />
    <path d="m6 8 2.3 2L6 12m4.2.3h3.3" />
  </>,
);
export const FolderIcon = draw(<path d="M3 6.2A1.2 1.2 0 0 1 4.2 5h3.3l1.8 2h6.5A1.2 1.2 0 0 1 17 8.2v6.6a1.2 1.2 0 0 1-1.2 1.2H4.2A1.2 1.2 0 0 1 3 14.8V6.2Z" />);
export const GlobeIcon = draw(
  <>
    <circle cx="10" cy="10" r="6.8" />
    <path d="M3.4 10h13.2M10 3.2c2 2 2.8 4.3 2.8 6.8s-.8 4.8-2.8 6.8c-2-2-2.8-4.3-2.8-6.8S8 5.2 10 3.2Z" />
  </>,
);
export const ListIcon = draw(<path d="M4 6.2h.01M4 10h.01M4 13.8h.01M7.5 6.2H16M7.5 10H16M7.5 13.8H16" />);
export const BranchIcon = draw(
  <>
    <circle cx="6" cy="5" r="1.8" />
    <circle cx="6" cy="15" r="1.8" />
    <circle cx="14" cy="6.8" r="1.8" />
    <path d="M6 6.8v6.4m8-4.6c0 2.9-2.3 3.3-4.5 3.6-1.8.2-3.1.5-3.5 1" />
  </>,
);
export const PullRequestIcon = draw(
  <>
    <circle cx="5.5" cy="5" r="1.8" />
    <circle cx="5.5" cy="15" r="1.8" />
    <circle cx="14.5" cy="15" r="1.8" />
    <path d="M5.5 6.8v6.4m9 0V7.6A2.2 2.2 0 0 0 12.3 5.4H9.6m2-2.2L9.4 5.4l2.2 2.2" />
  </>,
);
export const RepositoryIcon = draw(<path d="M15.5 13.5V3.5H6.3a1.8 1.8 0 0 0-1.8 1.8v9.4m11-1.2H6.3a1.6 1.6 0 0 0 0 3.2h9.2v-3.2Z" />);
export const SparkIcon = draw(<path d="M10 3.2c.5 3.9 2.4 5.9 6.6 6.8-4.2.9-6.1 2.9-6.6 6.8-.5-3.9-2.4-5.9-6.6-6.8 4.2-.9 6.1-2.9 6.6-6.8Z" />);
export const ThoughtIcon = draw(<path d="M10 3.2a5 5 0 0 0-3 9c.6.5 1 1.1 1 1.8v.4h4V14c0-.7.4-1.3 1-1.8a5 5 0 0 0-3-9ZM8.4 17h3.2" />);
export const QuestionIcon = draw(<path d="M7.2 7.4a2.8 2.8 0 1 1 4.3 2.4c-.9.6-1.5 1.1-1.5 2.2v.3m0 2.6v.1M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15Z" />);
export const WarningIcon = draw(<path d="M10 3.6 2.9 16h14.2L10 3.6Zm0 4.8v3.4m0 2.1v.1" />);
export const FailIcon = draw(
  <>
    <circle cx="10" cy="10" r="6.8" />
    <path d="m7.7 7.7 4.6 4.6m0-4.6-4.6 4.6" />
  </>,
);
export const DoneIcon = draw(
  <>
    <circle cx="10" cy="10" r="6.8" />
    <path d="m7 10.2 2.1 2.1L13 7.9" />
  </>,
);
export const ClockIcon = draw(
  <>
    <circle cx="10" cy="10" r="6.8" />
    <path d="M10 6.2V10l2.5 1.7" />
  </>,
);
export const BoxIcon = draw(<path d="m10 3 6.2 3.4v7.2L10 17l-6.2-3.4V6.4L10 3Zm0 0v0m-6.2 3.4L10 9.9l6.2-3.5M10 9.9V17" />);
export const CopyIcon = draw(
  <>
    <rect x="7" y="7" width="9.5" height="9.5" rx="1.8" />
    <path d="M4.6 13H4.3a1 1 0 0 1-1-1V4.5a1 1 0 0 1 1-1H12a1 1 0 0 1 1 1v.3" />
  </>,
);
export const ExternalIcon = draw(<path d="M8 4.5H5.7a1.2 1.2 0 0 0-1.2 1.2v8.6a1.2 1.2 0 0 0 1.2 1.2h8.6a1.2 1.2 0 0 0 1.2-1.2V12M11.5 4.5h4v4m0-4-6 6" />);
export const LockIcon = draw(
  <>
    <rect x="4.5" y="9" width="11" height="7.5" rx="1.6" />
    <path d="M7 9V6.6a3 3 0 0 1 6 0V9" />
  </>,
);
export const SunIcon = draw(
  <>
    <circle cx="10" cy="10" r="3.2" />
    <path d="M10 2.6v1.6m0 11.6v1.6M2.6 10h1.6m11.6 0h1.6M4.8 4.8l1.1 1.1m8.2 8.2 1.1 1.1m0-10.4-1.1 1.1m-8.2 8.2-1.1 1.1" />
  </>,
);
export const MoonIcon = draw(<path d="M16 11.7A6.5 6.5 0 0 1 8.3 4a6.5 6.5 0 1 0 7.7 7.7Z" />);
export const AutoIcon = draw(
  <>
    <circle cx="10" cy="10" r="6.5" />
    <path d="M10 3.5a6.5 6.5 0 0 1 0 13v-13Z" fill="currentColor" />
  </>,
);
export const SignOutIcon = draw(<path d="M8 4H5.2A1.2 1.2 0 0 0 4 5.2v9.6A1.2 1.2 0 0 0 5.2 16H8m4.5-9L16 10l-3.5 3M16 10H8" />);
export const QueueIcon = draw(<path d="M4 5.5h12M4 10h8.5M4 14.5h5m6.5-3v6m-2.4-2.3 2.4 2.4 2.4-2.4" />);
export const RetryIcon = draw(<path d="M15.8 8.2A6.2 6.2 0 1 0 16 12M16 4v4.2h-4.2" />);
export const CompactIcon = draw(<path d="M4 10h12M10 2.8v4m0 0L7.8 4.8M10 6.8l2.2-2M10 17.2v-4m0 0-2.2 2m2.2-2 2.2 2" />);
export const UploadIcon = draw(<path d="M10 13V4m0 0L6.5 7.5M10 4l3.5 3.5M4 13.5v1.3A1.2 1.2 0 0 0 5.2 16h9.6a1.2 1.2 0 0 0 1.2-1.2v-1.3" />);
export const ModelIcon = draw(
  <>
    <rect x="5.5" y="5.5" width="9" height="9" rx="2" />
    <path d="M8 5.5v-2m4 2v-2m-4 13v-2m4 2v-2m2.5-6.5h2m-2 4h2m-13-4h2m-2 4h2" />
  </>,
);

/** The mark of GitHub, for its sign-in button. */
export function GitHubIcon({ size = 18 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="currentColor" aria-hidden="true" focusable="false">
      <path d="M8 .2a8 8 0 0 0-2.53 15.59c.4.07.55-.17.55-.38l-.01-1.49c-2.01.37-2.53-.49-2.69-.94-.09-.23-.48-.94-.82-1.13-.28-.15-.68-.52-.01-.53.63-.01 1.08.58 1.23.82.72 1.21 1.87.87 2.33.66.07-.52.28-.87.51-1.07-1.78-.2-3.64-.89-3.64-3.95 0-.87.31-1.59.82-2.15-.08-.2-.36-1.02.08-2.12 0 0 .67-.21 2.2.82a7.42 7.42 0 0 1 4 0c1.53-1.04 2.2-.82 2.2-.82.44 1.1.16 1.92.08 2.12.51.56.82 1.27.82 2.15 0 3.07-1.87 3.75-3.65 3.95.29.25.54.73.54 1.48l-.01 2.2c0 .21.15.46.55.38A8 8 0 0 0 8 .2Z" />
    </svg>
  );
}

/** The mark of Google, in one colour. */
export function GoogleIcon({ size = 18 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="currentColor" aria-hidden="true" focusable="false">
      <path d="M8.16 6.86v2.76h3.92c-.16 1.02-1.19 2.98-3.92 2.98A4.44 4.44 0 0 1 3.75 8.1a4.44 4.44 0 0 1 4.41-4.5c1.34 0 2.24.58 2.75 1.07l1.88-1.81A6.6 6.6 0 0 0 8.16 1a7.08 7.08 0 1 0 0 14.16c4.09 0 6.8-2.87 6.8-6.92 0-.46-.05-.82-.11-1.18l-6.69-.2Z" />
    </svg>
  );
}

/** The product's mark: a prompt, and the light that says that somebody works on it. */
export function Mark({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" fill="var(--accent)" />
      <path
        d="M11 10.5 16.5 16 11 21.5"
        fill="none"
        stroke="var(--on-accent)"
        strokeWidth="2.75"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
      <circle cx="22" cy="20.5" r="2.1" fill="var(--on-accent)" />
    </svg>
  );
}
