// The pictures of a study: those of the trial whose point is nearest to the pointer, beside bicubic and the truth.
const shelf = document.querySelector(".shelf");
if (shelf) {
  const title = shelf.querySelector(".shown");
  const show = (number) => {
    for (const figure of shelf.querySelectorAll("[data-of]")) figure.hidden = figure.dataset.of !== number;
    for (const dot of document.querySelectorAll(".trial")) dot.classList.toggle("held", dot.dataset.trial === number);
    title.textContent = shelf.querySelector(`[data-of="${number}"]`)?.dataset.words ?? "";
  };
  for (const svg of document.querySelectorAll(".chart svg")) {
    const dots = [...svg.querySelectorAll(".trial")].map((dot) => ({ dot, x: +dot.getAttribute("cx"), y: +dot.getAttribute("cy") }));
    if (!dots.length) continue;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * unit, y = (event.clientY - box.top) * unit;
      const far = (d) => Math.hypot(d.x - x, d.y - y);
      show(dots.reduce((a, b) => (far(b) < far(a) ? b : a)).dot.dataset.trial);
    });
  }
  for (const row of document.querySelectorAll("tr[data-trial]")) row.addEventListener("pointerenter", () => show(row.dataset.trial));
  show(shelf.dataset.first);
}
