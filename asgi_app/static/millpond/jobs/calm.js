/* Would anybody be disturbed if the list changed under their hands now?
 *
 * Calm is: the list's top is in sight, no pointer rests on it, the focus is elsewhere, nothing is unfolded or selected.
 */

/** Somebody who has touched the list stays at it for a while. */
const RESTS = 5000;

export function calmOf(list, isUnfolded) {
  let over = false;
  let touched = -Infinity;
  const touch = () => (touched = Date.now());
  list.addEventListener("pointerenter", (event) => (over = event.pointerType !== "touch"));
  list.addEventListener("pointerleave", () => (over = false));
  for (const kind of ["pointerdown", "pointerup", "keydown"]) list.addEventListener(kind, touch);
  return () => {
    const atTop = list.getBoundingClientRect().top >= 0;
    const selected = !getSelection().isCollapsed && list.contains(getSelection().anchorNode);
    return atTop && !over && !selected && !isUnfolded() && !list.contains(document.activeElement) && Date.now() - touched > RESTS;
  };
}
