// A part of a page that refreshes itself (data-live) is replaced only when it has changed, and not while a person has a
// hand on it, or on what lies below it and would move (the selector in data-live). Until then it says that it has changed.
"use strict";
(() => {
  const RESTING = 60_000; // milliseconds after which a pointer or a focus that rests is nobody's hand
  const shown = new WeakMap(); // what each part was given last
  let moved = -RESTING;
  for (const kind of ["pointermove", "pointerdown", "keydown"])
    document.addEventListener(kind, () => { moved = performance.now(); }, { capture: true, passive: true });

  const isSelectedIn = (part) => {
    const selection = getSelection();
    return !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(part);
  };
  const isHeld = (part) =>
    isSelectedIn(part) ||
    (performance.now() - moved < RESTING && (part.matches(":hover") || part.contains(document.activeElement)));

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { target, serverResponse } = detail;
    if (!detail.shouldSwap || !target.matches("[data-live]")) return;
    const below = target.dataset.live && document.querySelector(target.dataset.live);
    const changed = shown.get(target) !== serverResponse;
    const held = changed && target.childElementCount > 0 && (isHeld(target) || (below && isHeld(below)));
    target.toggleAttribute("data-held", Boolean(held));
    if (held || !changed) detail.shouldSwap = false;
    else shown.set(target, serverResponse);
  });
})();
