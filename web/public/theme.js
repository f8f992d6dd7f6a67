// Runs before the first paint, so that a chosen theme does not flash. A file of its own, because the page's
// policy allows no inline script. The key is that of src/app/theme.ts.
try {
  const chosen = localStorage.getItem("open-inspect.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is blocked: the system's scheme holds.
}
