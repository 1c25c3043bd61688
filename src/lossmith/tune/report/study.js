// The images of a study: those of the trial whose point is nearest to the pointer, beside the baseline and the truth.
const trialImages = document.querySelector(".trial-images");
if (trialImages) {
  const title = trialImages.querySelector(".title");
  const showTrial = (number) => {
    for (const figure of trialImages.querySelectorAll("[data-of]")) figure.hidden = figure.dataset.of !== number;
    for (const point of document.querySelectorAll(".trial")) point.classList.toggle("selected", point.dataset.trial === number);
    title.textContent = trialImages.querySelector(`[data-of="${number}"]`)?.dataset.title ?? "";
  };
  for (const svg of document.querySelectorAll(".chart svg")) {
    const points = [...svg.querySelectorAll(".trial")].map((point) => ({ point, x: +point.getAttribute("cx"), y: +point.getAttribute("cy") }));
    if (!points.length) continue;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * unit, y = (event.clientY - box.top) * unit;
      const distance = (p) => Math.hypot(p.x - x, p.y - y);
      showTrial(points.reduce((a, b) => (distance(b) < distance(a) ? b : a)).point.dataset.trial);
    });
  }
  for (const row of document.querySelectorAll("tr[data-trial]")) row.addEventListener("pointerenter", () => showTrial(row.dataset.trial));
  showTrial(trialImages.dataset.first);
}
