// Mount the viewer of the reports whenever the page shows an image. Gradio turns the old elements into the new ones, which
// would keep the listeners of the old image; a copy has none.
new MutationObserver(() => {
  for (const root of document.querySelectorAll(".compare:not([data-mounted])")) {
    const copy = root.cloneNode(true);
    copy.dataset.mounted = "";
    root.replaceWith(copy);
    mountComparison(copy);
  }
}).observe(document, { childList: true, subtree: true });

// Gradio reports that a slider was released for the pointer only; a key that is let go counts too, and Enter in its number.
document.addEventListener("keyup", ({ key, target }) => {
  if (!target.matches?.("#studio-knob input")) return;
  if (target.type === "range") target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  else if (key === "Enter") target.blur();
});
