/* The theme: the system's preference unless a person chose one, which this browser remembers.
 *
 * Whoever draws with colours listens for "millpond:theme" on the document: it is said after each change, of either kind.
 */

const KEY = "millpond.theme";
const root = document.documentElement;

function announce() {
  document.dispatchEvent(new Event("millpond:theme"));
}

function choose(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Not remembered, but chosen for this page.
  }
  announce();
}

const choice = document.querySelector("[data-theme-choice]");
choice.hidden = false;
for (const radio of choice.querySelectorAll("input")) {
  radio.checked = radio.value === (root.dataset.theme ?? "auto");
  radio.addEventListener("change", () => choose(radio.value));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
