// Chromium started under LANG=C calls its language "en-US@posix", which Intl refuses; uPlot asks Intl while it loads
// and would not come up at all.  Must run before uPlot.
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en-US", configurable: true });
}
