// A part of a page that refreshes itself (data-live) is replaced only if it has changed, and not while the viewer uses it
// or the part below it (the selector in data-live), which would move. Until then it shows a note that it has changed.
"use strict";
(() => {
  const IDLE = 60_000; // milliseconds without input after which pointer and focus no longer count as use
  const shown = new WeakMap(); // the last content of each part
  let lastInput = -IDLE;
  for (const kind of ["pointermove", "pointerdown", "keydown"])
    document.addEventListener(kind, () => { lastInput = performance.now(); }, { capture: true, passive: true });

  const hasSelection = (part) => {
    const selection = getSelection();
    return !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(part);
  };
  const isInUse = (part) =>
    hasSelection(part) ||
    (performance.now() - lastInput < IDLE && (part.matches(":hover") || part.contains(document.activeElement)));

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { target, serverResponse } = detail;
    if (!detail.shouldSwap || !target.matches("[data-live]")) return;
    const below = target.dataset.live && document.querySelector(target.dataset.live);
    const changed = shown.get(target) !== serverResponse;
    const held = changed && target.childElementCount > 0 && (isInUse(target) || (below && isInUse(below)));
    target.toggleAttribute("data-held", Boolean(held));
    if (held || !changed) detail.shouldSwap = false;
    else shown.set(target, serverResponse);
  });
})();
