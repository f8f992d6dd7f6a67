const DENIED =
  "This account may not use this deployment. Sign in with another one, or ask whoever runs it to add you.";

const REASONS: Record<string, string> = {
  access_denied: DENIED,
  not_allowed: DENIED,
  forbidden: DENIED,
  signup_disabled: DENIED,
  unable_to_create_user: DENIED,
  unable_to_create_session: "You could not be signed in. Try again.",
  policy_unavailable: "It could not be checked whether this account may sign in. Try again in a moment.",
  email_not_verified: "Your e-mail address is not verified there. Verify it, then sign in again.",
  email_not_found: "That account shows no e-mail address. Allow access to a verified one, then sign in again.",
  state_mismatch: "The sign-in took too long or was started in another tab. Try again.",
  state_not_found: "The sign-in took too long or was started in another tab. Try again.",
  please_restart_the_process: "The sign-in took too long or was started in another tab. Try again.",
  invalid_code: "The sign-in was interrupted. Try again.",
};

/** The sentence for the code that a failed sign-in came back with. */
export function reasonForPerson(code: string | null): string | undefined {
  if (code === null || code === "") return undefined;
  const shown = code.replace(/[^\w.-]/g, " ").slice(0, 60);
  return REASONS[code.toLowerCase()] ?? `Signing in failed (${shown}). Try again.`;
}
