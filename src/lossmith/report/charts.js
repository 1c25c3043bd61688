// Read-outs on the charts: the nearest step under the pointer, or the arrow keys.
for (const chart of document.querySelectorAll(".chart")) {
  const { x, y, series, plane } = JSON.parse(chart.querySelector("script").textContent);
  const svg = chart.querySelector("svg");
  const readout = document.createElement("div");
  readout.className = "readout";
  readout.setAttribute("role", "status");
  readout.hidden = true;
  chart.append(readout);
  const marks = document.createElementNS("http://www.w3.org/2000/svg", "g");
  svg.append(marks);

  const at = (axis, value) => {
    const v = Math.min(Math.max(value, axis.low), axis.high);
    const part = axis.log ? Math.log(v / axis.low) / Math.log(axis.high / axis.low) : (v - axis.low) / (axis.high - axis.low);
    return axis.start + (axis.end - axis.start) * part;
  };
  const written = (value, unit) => unit === "%" ? `${(100 * value).toFixed(0)} %` : String(+value.toPrecision(4));
  const steps = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const flat = series.flatMap((s) => s.points.map((p, i) => ({ ...s, point: p, step: s.steps?.[i] })));
  let index = -1;

  const draw = (name, attributes) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) mark.setAttribute(key, value);
    marks.append(mark);
  };
  const say = (heading, rows, place, down = 6) => {
    readout.replaceChildren();
    const title = document.createElement("i");
    title.textContent = heading;
    readout.append(title);
    for (const row of rows) {
      const line = document.createElement("div");
      const name = document.createElement("span");
      name.className = `c${row.colour}`;
      name.textContent = row.name;
      line.append(name, row.text);
      readout.append(line);
    }
    readout.hidden = false;
    const box = svg.getBoundingClientRect(), outer = chart.getBoundingClientRect();
    const left = place * box.width / svg.viewBox.baseVal.width + box.left - outer.left;
    const flip = left > outer.width - readout.offsetWidth - 20;
    readout.style.left = `${Math.max(0, flip ? left - readout.offsetWidth - 12 : left + 12)}px`;
    readout.style.top = `${box.top - outer.top + 12 + down * box.width / svg.viewBox.baseVal.width}px`;
  };
  const clear = () => { marks.replaceChildren(); readout.hidden = true; };
  const show = (i) => {
    clear();
    if (plane) {
      const { point, name, colour, step } = flat[i];
      draw("circle", { class: `found c${colour}`, cx: at(x, point[0]), cy: at(y, point[1]), r: 5 });
      const rows = plane.map((axis, k) => ({ name: axis, colour: -1, text: written(point[k]) }));
      return say(step === undefined ? name : `${name}, step ${step.toLocaleString("en")}`, rows, at(x, point[0]), at(y, point[1]));
    }
    const step = steps[i], place = at(x, step);
    draw("line", { class: "cursor", x1: place, x2: place, y1: 14, y2: 264 });
    const rows = [];
    for (const s of series) {
      const near = s.points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));
      if (near[0] < step && near === s.points.at(-1)) continue; // this run ended before
      if (y) draw("circle", { class: `found c${s.colour}`, cx: at(x, near[0]), cy: at(y, near[1]), r: 4.5 });
      rows.push({ name: s.name, colour: s.colour, text: written(near[1], s.unit) });
    }
    say(`step ${step.toLocaleString("en")}`, rows, place);
  };
  const nearest = (list, distance) => list.reduce((best, item, i) => (distance(item) < distance(list[best]) ? i : best), 0);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
    const px = (event.clientX - box.left) * unit, py = (event.clientY - box.top) * unit;
    index = plane
      ? nearest(flat, ({ point }) => Math.hypot(at(x, point[0]) - px, at(y, point[1]) - py))
      : nearest(steps, (step) => Math.abs(at(x, step) - px));
    show(index);
  });
  svg.addEventListener("pointerleave", clear);
  chart.addEventListener("blur", clear);
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const last = (plane ? flat : steps).length - 1;
    index = Math.min(Math.max(index + move * (event.shiftKey ? 10 : 1), 0), last);
    show(index);
  });
}
