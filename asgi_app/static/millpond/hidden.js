/* Nobody looks at a tab in the background: after a while the service need not keep values fresh for its sake.
 *
 * It goes on showing what is computed for others, and has the newest values as soon as somebody looks again.
 */

const PATIENCE = 30_000;

export function tellWhenHidden(live) {
  let timer = null;
  const change = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => live.hide(true), PATIENCE);
    else live.hide(false);
  };
  document.addEventListener("visibilitychange", change);
  change();
}
