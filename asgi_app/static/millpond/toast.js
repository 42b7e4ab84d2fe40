/* What lands in the inbox is said in a corner of the page, for a while: quietly, with the way to the inbox. */

import { setText } from "./dom.js";

const SHOWN = 20_000;

export function showToasts() {
  const toast = document.querySelector("[data-toast]");
  let timer = 0;
  const hide = () => {
    clearTimeout(timer);
    if (toast.matches(":hover, :focus-within")) timer = setTimeout(hide, SHOWN);
    else toast.hidden = true;
  };
  document.addEventListener("millpond:inbox", ({ detail }) => {
    if (detail.kind !== "notification") return;
    toast.hidden = false;
    setText(toast.querySelector("[data-toast-text]"), detail.data.title);
    clearTimeout(timer);
    timer = setTimeout(hide, SHOWN);
  });
  toast.querySelector("[data-toast-close]").addEventListener("click", () => {
    clearTimeout(timer);
    toast.hidden = true;
  });
}
