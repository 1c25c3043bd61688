// The comparison of pictures: a wipe between two of them, a loupe at one place of all, a slider over the steps.
for (const root of document.querySelectorAll(".compare")) {
  const find = (selector) => root.querySelector(selector);
  const [stage, under, over, spot, wipe, tiles] = [".stage", ".under", ".over", ".spot", ".wipe", ".tiles"].map(find);
  const [left, right, step, zoom, tabs] = [".left", ".right", ".step", ".zoom", ".tabs"].map(find);
  const count = (n) => Number(n).toLocaleString("en").replaceAll(",", "\u202f");

  // Each gallery is one picture; its sides are input, bicubic, each run (with its steps) and truth.
  const pictures = [...root.querySelectorAll(".gallery")].map((gallery) => {
    const sides = new Map();
    for (const figure of gallery.querySelectorAll("figure")) {
      const { side, name, step, colour } = figure.dataset;
      if (!sides.has(side)) sides.set(side, { side, name, colour, images: [] });
      sides.get(side).images.push({ step: Number(step || 0), image: figure.querySelector("img") });
    }
    const all = [...sides.values()];
    const steps = [...new Set(all.filter((s) => s.colour).flatMap((s) => s.images.map((i) => i.step)))].sort((a, b) => a - b);
    const size = all.flatMap((s) => s.images).map((i) => [Number(i.image.getAttribute("width")), Number(i.image.getAttribute("height"))]);
    const [width, height] = size.reduce((a, b) => (b[0] > a[0] ? b : a));
    return { name: gallery.dataset.name, place: [Number(gallery.dataset.x), Number(gallery.dataset.y)], gallery, sides: all, steps, width, height };
  });
  const state = { picture: 0, wipe: 0.5, x: 0.5, y: 0.5, zoom: 5, step: 0, held: false };
  const now = () => pictures[state.picture];
  // What a side shows at the chosen step: the last picture that is not later, or its first.
  const shown = (side) => side.images.filter((i) => i.step <= now().steps[state.step]).at(-1) || side.images[0];

  const drawStage = () => {
    for (const [img, select] of [[over, left], [under, right]]) {
      const side = now().sides.find((s) => s.side === select.value);
      const { image } = shown(side);
      img.src = image.src;
      img.alt = `${now().name}, ${side.name}`;
      img.classList.toggle("blocky", side.side === "input");
    }
    over.style.clipPath = `inset(0 ${100 - 100 * state.wipe}% 0 0)`;
    wipe.style.left = `${100 * state.wipe}%`;
    wipe.setAttribute("aria-valuenow", Math.round(100 * state.wipe));
    wipe.setAttribute("aria-valuetext", `${Math.round(100 * state.wipe)} % ${left.selectedOptions[0].text}, the rest ${right.selectedOptions[0].text}`);
  };
  const drawLoupe = () => {
    const { width, height, sides } = now();
    const first = tiles.querySelector("canvas");
    if (!first) return;
    const region = Math.min(first.clientWidth / state.zoom, width, height); // pixels of the truth that a tile shows
    const half = [region / 2 / width, region / 2 / height];
    const cx = Math.min(Math.max(state.x, half[0]), 1 - half[0]), cy = Math.min(Math.max(state.y, half[1]), 1 - half[1]);
    spot.style.cssText = `left:${100 * (cx - half[0])}%;top:${100 * (cy - half[1])}%;width:${200 * half[0]}%;height:${200 * half[1]}%`;
    spot.classList.toggle("held", state.held);
    sides.forEach((side, i) => {
      const canvas = tiles.children[i].querySelector("canvas");
      const { image, step } = shown(side);
      canvas.width = canvas.height = Math.round(first.clientWidth * devicePixelRatio);
      const draw = canvas.getContext("2d");
      draw.imageSmoothingEnabled = false; // pixels as they are
      const rx = image.naturalWidth * half[0] * 2, ry = image.naturalHeight * half[1] * 2;
      draw.drawImage(image, cx * image.naturalWidth - rx / 2, cy * image.naturalHeight - ry / 2, rx, ry, 0, 0, canvas.width, canvas.height);
      if (side.colour) tiles.children[i].querySelector("small").textContent = `step ${count(step)}`;
    });
  };
  const layout = () => {
    const { width, height } = now(), room = root.clientWidth;
    const scale = Math.min(room / width, Math.max(320, 0.62 * innerHeight) / height, 4);
    stage.style.width = `${Math.round(width * scale)}px`;
    stage.style.aspectRatio = `${width} / ${height}`;
    find(".bench").classList.toggle("beside", room - width * scale > 400);
    drawStage();
    drawLoupe();
  };
  const choose = (index) => {
    const kept = [left.value, right.value];
    state.picture = index;
    state.held = false;
    [state.x, state.y] = now().place;
    const { sides, steps } = now();
    state.step = Math.max(0, steps.length - 1);
    step.max = state.step;
    step.value = state.step;
    find(".time").hidden = steps.length < 2;
    [...tabs.children].forEach((tab, i) => tab.setAttribute("aria-pressed", i === index));
    for (const select of [left, right]) select.replaceChildren(...sides.map((s) => new Option(s.name, s.side)));
    const runs = sides.filter((s) => s.colour).map((s) => s.side), names = sides.map((s) => s.side);
    const usual = runs.length > 1 ? runs.slice(0, 2) : ["bicubic", "input", "truth"].filter((s) => names.includes(s)).slice(0, 1).concat(runs, "truth");
    [left, right].forEach((select, i) => { select.value = names.includes(kept[i]) ? kept[i] : names.includes(usual[i]) ? usual[i] : names.at(-1); });
    tiles.replaceChildren(...sides.map((side) => {
      const tile = document.createElement("figure"), caption = document.createElement("figcaption"), name = document.createElement("b");
      name.textContent = side.name;
      if (side.colour) name.className = `c${side.colour}`;
      caption.append(name, " ", document.createElement("small"));
      tile.append(document.createElement("canvas"), caption);
      return tile;
    }));
    turn();
    layout();
  };
  const turn = () => {
    find(".time output").textContent = count(now().steps[state.step] || 0);
    zoom.nextElementSibling.textContent = `${state.zoom}×`;
  };
  const bound = (value) => Math.min(Math.max(value, 0), 1);
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [bound((event.clientX - box.left) / box.width), bound((event.clientY - box.top) / box.height)];
  };

  let start = null, dragged = false;
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    start = event.clientX;
    dragged = event.target === wipe;
    if (!dragged) event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (start !== null && Math.abs(event.clientX - start) > 4) dragged = true;
    if (start !== null && dragged) { state.wipe = x; drawStage(); }
    if (!state.held && !(start !== null && dragged)) { [state.x, state.y] = [x, y]; drawLoupe(); }
  });
  stage.addEventListener("pointerup", (event) => {
    if (start !== null && !dragged) { state.held = !state.held; [state.x, state.y] = place(event); drawLoupe(); }
    start = null;
  });
  stage.addEventListener("pointercancel", () => { start = null; });
  wipe.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -100, End: 100 }[event.key];
    if (!move) return;
    event.preventDefault();
    state.wipe = bound(state.wipe + move * (event.shiftKey ? 0.1 : 0.02));
    drawStage();
  });
  spot.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const size = event.shiftKey ? 24 : 4;
    state.x = bound(state.x + move[0] * size / now().width);
    state.y = bound(state.y + move[1] * size / now().height);
    state.held = true;
    drawLoupe();
  });
  for (const select of [left, right]) select.addEventListener("change", drawStage);
  step.addEventListener("input", () => { state.step = Number(step.value); turn(); drawStage(); drawLoupe(); });
  zoom.addEventListener("input", () => { state.zoom = Number(zoom.value); turn(); drawLoupe(); });

  tabs.hidden = pictures.length < 2;
  tabs.append(...pictures.map((picture, i) => {
    const tab = document.createElement("button"), thumb = document.createElement("img"), name = document.createElement("span");
    thumb.src = picture.sides.at(-1).images.at(-1).image.src;
    thumb.alt = "";
    name.textContent = picture.name;
    tab.append(thumb, name);
    tab.type = "button";
    tab.addEventListener("click", () => choose(i));
    return tab;
  }));
  pictures.forEach((picture) => { picture.gallery.hidden = true; });
  find(".desk").hidden = false;
  choose(0);
  Promise.all(pictures.flatMap((p) => p.sides.flatMap((s) => s.images.map((i) => i.image.decode().catch(() => null))))).then(drawLoupe);
  new ResizeObserver(layout).observe(root);
}
