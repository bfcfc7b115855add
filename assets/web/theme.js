// Before the first paint: the colour scheme that was chosen here, if any. Small, because the page waits for it.
try {
  const chosen = localStorage.getItem("beacon-scheme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.scheme = chosen;
} catch {
  // Storage is switched off: the system's scheme it is.
}
