// Tooltips of the charts: the values at the step, or of the point, that is nearest to the pointer; arrow keys move on.
for (const chart of document.querySelectorAll(".chart")) {
  // A chart with axis_names is a scatter plot; the others have the step on the horizontal axis.
  const { x, y, series, axis_names: axisNames } = JSON.parse(chart.querySelector("script").textContent);
  const svg = chart.querySelector("svg");
  const tooltip = document.createElement("div");
  tooltip.className = "tooltip";
  tooltip.setAttribute("role", "status");
  tooltip.hidden = true;
  chart.append(tooltip);
  const marks = document.createElementNS("http://www.w3.org/2000/svg", "g");
  svg.append(marks);

  const position = (axis, value) => {
    const v = Math.min(Math.max(value, axis.low), axis.high);
    const fraction = axis.is_log ? Math.log(v / axis.low) / Math.log(axis.high / axis.low) : (v - axis.low) / (axis.high - axis.low);
    return axis.start + (axis.end - axis.start) * fraction;
  };
  const format = (value, unit) => unit === "%" ? `${(100 * value).toFixed(0)} %` : String(+value.toPrecision(4));
  const steps = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const points = series.flatMap((s) => s.points.map((p, i) => ({ ...s, point: p, step: s.steps?.[i] })));
  let index = -1;

  const drawMark = (name, attributes) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) mark.setAttribute(key, value);
    marks.append(mark);
  };
  const showTooltip = (heading, rows, left, top = 6) => {
    tooltip.replaceChildren();
    const title = document.createElement("i");
    title.textContent = heading;
    tooltip.append(title);
    for (const row of rows) {
      const line = document.createElement("div");
      const name = document.createElement("span");
      name.className = `c${row.colour}`;
      name.textContent = row.name;
      line.append(name, row.text);
      tooltip.append(line);
    }
    tooltip.hidden = false;
    const inner = svg.getBoundingClientRect(), outer = chart.getBoundingClientRect();
    const unit = inner.width / svg.viewBox.baseVal.width;
    const px = left * unit + inner.left - outer.left;
    const isFlipped = px > outer.width - tooltip.offsetWidth - 20;
    tooltip.style.left = `${Math.max(0, isFlipped ? px - tooltip.offsetWidth - 12 : px + 12)}px`;
    tooltip.style.top = `${inner.top - outer.top + 12 + top * unit}px`;
  };
  const clear = () => { marks.replaceChildren(); tooltip.hidden = true; };
  const show = (i) => {
    clear();
    if (axisNames) {
      const { point, name, colour, step } = points[i];
      const [left, top] = [position(x, point[0]), position(y, point[1])];
      drawMark("circle", { class: `found c${colour}`, cx: left, cy: top, r: 5 });
      const rows = axisNames.map((axisName, k) => ({ name: axisName, colour: -1, text: format(point[k]) }));
      return showTooltip(step === undefined ? name : `${name}, step ${step.toLocaleString("en")}`, rows, left, top);
    }
    const step = steps[i], left = position(x, step);
    drawMark("line", { class: "cursor", x1: left, x2: left, y1: 14, y2: 264 });
    const rows = [];
    for (const s of series) {
      const nearest = s.points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));
      if (nearest[0] < step && nearest === s.points.at(-1)) continue; // the run ended before this step
      if (y) drawMark("circle", { class: `found c${s.colour}`, cx: left, cy: position(y, nearest[1]), r: 4.5 });
      rows.push({ name: s.name, colour: s.colour, text: format(nearest[1], s.unit) });
    }
    showTooltip(`step ${step.toLocaleString("en")}`, rows, left);
  };
  const argmin = (items, distance) => items.reduce((best, item, i) => (distance(item) < distance(items[best]) ? i : best), 0);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
    const px = (event.clientX - box.left) * unit, py = (event.clientY - box.top) * unit;
    index = axisNames
      ? argmin(points, ({ point }) => Math.hypot(position(x, point[0]) - px, position(y, point[1]) - py))
      : argmin(steps, (step) => Math.abs(position(x, step) - px));
    show(index);
  });
  svg.addEventListener("pointerleave", clear);
  chart.addEventListener("blur", clear);
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const last = (axisNames ? points : steps).length - 1;
    index = Math.min(Math.max(index + move * (event.shiftKey ? 10 : 1), 0), last);
    show(index);
  });
}
