// Runs before the first paint, so that a remembered theme never flashes.  theme.js does the rest.
try {
  const remembered = localStorage.getItem("millpond.theme");
  if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;
} catch {
  // Storage may be forbidden; the system's preference holds then.
}
