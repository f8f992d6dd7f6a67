/** Where to go after signing in: a path of this page, whatever the address says. */
export function safePath(wanted: string | null): string {
  if (wanted === null || !/^\/(?![/\\])/.test(wanted) || wanted.startsWith("/login")) return "/";
  return wanted;
}
