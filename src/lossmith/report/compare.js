// The image comparison: a wipe between two images, a loupe at one place of all images, and a slider over the steps.
// A side may be the output of a network with a knob: the event "knob" on the root, with the position of the slider from 0
// to 1, shows the mix of both ends, and "exact", with the position and images by side, shows these images.
const mountComparison = (root) => {
  const find = (selector) => root.querySelector(selector);
  const [stage, under, over, loupe, wipe, tiles] = [".stage", ".under", ".over", ".loupe", ".wipe", ".tiles"].map(find);
  const [left, right, step, zoom, tabs] = [".left", ".right", ".step", ".zoom", ".tabs"].map(find);
  const formatCount = (n) => Number(n).toLocaleString("en").replaceAll(",", "\u202f");

  // Each gallery is one validation image; its sides are the input, the baseline, each run (with its steps) and the truth.
  const comparisons = [...root.querySelectorAll(".gallery")].map((gallery) => {
    const sides = new Map();
    for (const figure of gallery.querySelectorAll("figure")) {
      const { side, name, step, colour, weights, exact } = figure.dataset, image = figure.querySelector("img");
      if (!sides.has(side)) sides.set(side, { side, name, colour, variants: [] });
      // The upper end of a knob lies over the lower one with the weight that belongs to the slider's position.
      if (weights) sides.get(side).upper = { image, weights: JSON.parse(weights) };
      else if (exact !== undefined) sides.get(side).exact = image;
      else sides.get(side).variants.push({ step: Number(step || 0), image });
    }
    const all = [...sides.values()];
    const steps = [...new Set(all.filter((s) => s.colour).flatMap((s) => s.variants.map((v) => v.step)))].sort((a, b) => a - b);
    const sizes = all.flatMap((s) => s.variants).map((v) => [Number(v.image.getAttribute("width")), Number(v.image.getAttribute("height"))]);
    const [width, height] = sizes.reduce((a, b) => (b[0] > a[0] ? b : a));
    return { name: gallery.dataset.name, focus: [Number(gallery.dataset.x), Number(gallery.dataset.y)], gallery, sides: all, steps, width, height };
  });
  const state = { comparison: 0, wipe: 0.5, x: 0.5, y: 0.5, zoom: 5, step: 0, isFixed: false, knob: Number(root.dataset.knob ?? 0), isMapped: root.dataset.mapped !== undefined };
  const current = () => comparisons[state.comparison];
  // The variant of a side at the selected step: the last one that is not later, or the first one.
  const variantOf = (side) => side.variants.filter((v) => v.step <= current().steps[state.step]).at(-1) || side.variants[0];

  // The images of a side and their opacities, the lowest first.
  const layersOf = (side) => {
    if (side.exact) return [[side.exact, 1]];
    const lower = [variantOf(side).image, 1];
    if (!side.upper) return [lower];
    const { image, weights } = side.upper;
    return [lower, [image, weights[Math.round(state.knob * (weights.length - 1))]]];
  };

  const drawStage = () => {
    for (const [frame, select] of [[over, left], [under, right]]) {
      const side = current().sides.find((s) => s.side === select.value), layers = layersOf(side);
      frame.setAttribute("aria-label", `${current().name}, ${side.name}`);
      while (frame.children.length > layers.length) frame.lastChild.remove();
      layers.forEach(([image, opacity], i) => {
        const img = frame.children[i] ?? frame.appendChild(new Image());
        if (img.src !== image.src) img.src = image.src;
        img.alt = "";
        img.style.opacity = opacity;
        img.classList.toggle("pixelated", side.side === "input");
      });
    }
    over.style.clipPath = `inset(0 ${100 - 100 * state.wipe}% 0 0)`;
    wipe.style.left = `${100 * state.wipe}%`;
    wipe.setAttribute("aria-valuenow", Math.round(100 * state.wipe));
    wipe.setAttribute("aria-valuetext", `${Math.round(100 * state.wipe)} % ${left.selectedOptions[0].text}, the rest ${right.selectedOptions[0].text}`);
  };
  const drawLoupe = () => {
    const { width, height, sides } = current();
    const first = tiles.querySelector("canvas");
    if (!first) return;
    const region = Math.min(first.clientWidth / state.zoom, width, height); // side of the magnified region, in pixels of the truth
    const half = [region / 2 / width, region / 2 / height];
    const cx = Math.min(Math.max(state.x, half[0]), 1 - half[0]), cy = Math.min(Math.max(state.y, half[1]), 1 - half[1]);
    loupe.style.cssText = `left:${100 * (cx - half[0])}%;top:${100 * (cy - half[1])}%;width:${200 * half[0]}%;height:${200 * half[1]}%`;
    loupe.classList.toggle("fixed", state.isFixed);
    sides.forEach((side, i) => {
      const canvas = tiles.children[i].querySelector("canvas");
      canvas.width = canvas.height = Math.round(first.clientWidth * devicePixelRatio);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false; // pixels must stay visible
      for (const [image, opacity] of layersOf(side)) {
        const rx = image.naturalWidth * half[0] * 2, ry = image.naturalHeight * half[1] * 2;
        context.globalAlpha = opacity;
        context.drawImage(image, cx * image.naturalWidth - rx / 2, cy * image.naturalHeight - ry / 2, rx, ry, 0, 0, canvas.width, canvas.height);
      }
      const { step } = variantOf(side);
      if (side.colour && !root.dataset.knob) tiles.children[i].querySelector("small").textContent = `step ${formatCount(step)}`;
    });
  };
  const layout = () => {
    const { width, height } = current(), available = root.clientWidth;
    const scale = Math.min(available / width, Math.max(320, 0.62 * innerHeight) / height, 4);
    stage.style.width = `${Math.round(width * scale)}px`;
    stage.style.aspectRatio = `${width} / ${height}`;
    find(".grid-captions").style.width = stage.style.width; // each caption stands in the column of its image
    find(".columns").classList.toggle("beside", available - width * scale > 400);
    drawStage();
    drawLoupe();
  };
  const selectComparison = (index) => {
    const previous = [left.value, right.value];
    state.comparison = index;
    state.isFixed = false;
    [state.x, state.y] = current().focus;
    const { sides, steps } = current();
    state.step = Math.max(0, steps.length - 1);
    step.max = state.step;
    step.value = state.step;
    find(".time").hidden = steps.length < 2;
    [...tabs.children].forEach((tab, i) => tab.setAttribute("aria-pressed", i === index));
    for (const select of [left, right]) select.replaceChildren(...sides.map((s) => new Option(s.name, s.side)));
    const runs = sides.filter((s) => s.colour).map((s) => s.side), names = sides.map((s) => s.side);
    const baseline = names.find((s) => !runs.includes(s) && s !== "input" && s !== "truth");
    find(".grid-captions").replaceChildren(...[...current().gallery.querySelectorAll(".captions")].map((list) => list.cloneNode(true)));
    const defaults = runs.length > 1 ? runs.slice(0, 2) : [baseline ?? (names.includes("input") ? "input" : "truth"), ...runs, "truth"];
    [left, right].forEach((select, i) => { select.value = names.includes(previous[i]) ? previous[i] : names.includes(defaults[i]) ? defaults[i] : names.at(-1); });
    tiles.replaceChildren(...sides.map((side) => {
      const tile = document.createElement("figure"), caption = document.createElement("figcaption"), name = document.createElement("b");
      name.textContent = side.name;
      if (side.colour) name.className = `c${side.colour}`;
      caption.append(name, " ", document.createElement("small"));
      tile.append(document.createElement("canvas"), caption);
      return tile;
    }));
    updateOutputs();
    layout();
  };
  const updateOutputs = () => {
    find(".time output").textContent = formatCount(current().steps[state.step] || 0);
    zoom.nextElementSibling.textContent = `${state.zoom}×`;
  };
  const clamp = (value) => Math.min(Math.max(value, 0), 1);
  const relativePosition = (event) => {
    const box = stage.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
  };

  let start = null, isDragged = false;
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    start = event.clientX;
    isDragged = event.target === wipe;
    if (!isDragged) event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    const [x, y] = relativePosition(event);
    if (start !== null && Math.abs(event.clientX - start) > 4) isDragged = true;
    if (start !== null && isDragged) { state.wipe = x; drawStage(); }
    if (!state.isFixed && !(start !== null && isDragged)) { [state.x, state.y] = [x, y]; drawLoupe(); }
  });
  stage.addEventListener("pointerup", (event) => {
    if (start !== null && !isDragged) { state.isFixed = !state.isFixed; [state.x, state.y] = relativePosition(event); drawLoupe(); }
    start = null;
  });
  stage.addEventListener("pointercancel", () => { start = null; });
  wipe.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -100, End: 100 }[event.key];
    if (!move) return;
    event.preventDefault();
    state.wipe = clamp(state.wipe + move * (event.shiftKey ? 0.1 : 0.02));
    drawStage();
  });
  loupe.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const size = event.shiftKey ? 24 : 4;
    state.x = clamp(state.x + move[0] * size / current().width);
    state.y = clamp(state.y + move[1] * size / current().height);
    state.isFixed = true;
    drawLoupe();
  });
  for (const select of [left, right]) select.addEventListener("change", drawStage);
  step.addEventListener("input", () => { state.step = Number(step.value); updateOutputs(); drawStage(); drawLoupe(); });
  zoom.addEventListener("input", () => { state.zoom = Number(zoom.value); updateOutputs(); drawLoupe(); });

  root.addEventListener("knob", ({ detail }) => {
    state.knob = detail;
    if (state.isMapped) return; // a painted map has no single position
    for (const side of current().sides.filter((s) => s.upper)) side.exact = undefined;
    drawStage();
    drawLoupe();
  });
  root.addEventListener("exact", async ({ detail: { knob, isMapped, images } }) => {
    const loaded = await Promise.all(Object.entries(images).map(async ([name, src]) => {
      const image = new Image();
      image.src = src;
      await image.decode().catch(() => null);
      return [current().sides.find((s) => s.side === name), image];
    }));
    if (Math.abs(knob - state.knob) > 1e-6) return; // the slider has moved on
    state.isMapped = isMapped;
    for (const [side, image] of loaded) if (side) side.exact = image;
    drawStage();
    drawLoupe();
  });

  tabs.hidden = comparisons.length < 2;
  tabs.append(...comparisons.map((comparison, i) => {
    const tab = document.createElement("button"), thumbnail = document.createElement("img"), name = document.createElement("span");
    thumbnail.src = comparison.sides.at(-1).variants.at(-1).image.src;
    thumbnail.alt = "";
    name.textContent = comparison.name;
    tab.append(thumbnail, name);
    tab.type = "button";
    tab.addEventListener("click", () => selectComparison(i));
    return tab;
  }));
  comparisons.forEach((comparison) => { comparison.gallery.hidden = true; });
  find(".viewer").hidden = false;
  selectComparison(0);
  const images = comparisons.flatMap((c) => c.sides.flatMap((s) => [...s.variants, s.upper ?? []].flat().map((v) => v.image)));
  Promise.all(images.map((image) => image.decode().catch(() => null))).then(drawLoupe);
  const observer = new ResizeObserver(() => (root.isConnected ? layout() : observer.disconnect()));
  observer.observe(root);
};
document.querySelectorAll(".compare").forEach(mountComparison);
