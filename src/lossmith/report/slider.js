// A photograph between the two ends of a knob: the upper end lies over the lower one with the opacity of its part in the mix.
const MAGNIFICATION = 2; // of the tiles: a larger one shows pixels in place of texture
for (const root of document.querySelectorAll(".mixer")) {
  const find = (selector) => root.querySelector(selector);
  const [stage, low, high, loupe, tabs, tiles] = [".stage", ".stage .low", ".stage .high", ".loupe", ".tabs", ".tiles"].map(find);
  const [slider, shown, output] = [".slider", ".shown", ".place output"].map(find);
  const [positions, fractions] = JSON.parse(root.dataset.curve), places = JSON.parse(root.dataset.places);
  const photos = [...root.querySelectorAll(".gallery")].map((gallery) => {
    const images = Object.fromEntries([...gallery.querySelectorAll("figure")].map((f) => [f.dataset.role, f.querySelector("img")]));
    const [width, height] = ["width", "height"].map((side) => Number(images.accurate.getAttribute(side)));
    return { name: gallery.dataset.name, note: gallery.dataset.note, focus: [Number(gallery.dataset.x), Number(gallery.dataset.y)], images, width, height };
  });
  const state = { photo: 0, x: 0.5, y: 0.5, isFixed: false };
  const current = () => photos[state.photo];
  // The part of the upper end at a place of the slider, by linear interpolation in the calibration.
  const fraction = (t) => {
    const i = Math.max(1, positions.findIndex((p) => p >= t));
    return fractions[i - 1] + (fractions[i] - fractions[i - 1]) * (t - positions[i - 1]) / (positions[i] - positions[i - 1]);
  };
  const drawStage = () => {
    const { images, name } = current(), t = Number(slider.value), role = shown.value;
    const isMix = role === "network";
    low.src = isMix ? images.accurate.src : images[role].src;
    low.alt = `${name}, ${isMix ? `slider at ${t}` : role}`;
    low.classList.toggle("pixelated", role === "input");
    high.src = images.realistic.src;
    high.hidden = !isMix;
    high.style.opacity = fraction(t);
    output.textContent = t.toFixed(2);
  };
  const drawTiles = () => {
    const { images, width, height } = current(), first = tiles.querySelector("canvas");
    if (!first) return;
    const region = Math.min(first.clientWidth / MAGNIFICATION, width, height), half = [region / 2 / width, region / 2 / height];
    const cx = Math.min(Math.max(state.x, half[0]), 1 - half[0]), cy = Math.min(Math.max(state.y, half[1]), 1 - half[1]);
    loupe.style.cssText = `left:${100 * (cx - half[0])}%;top:${100 * (cy - half[1])}%;width:${200 * half[0]}%;height:${200 * half[1]}%`;
    loupe.classList.toggle("fixed", state.isFixed);
    for (const tile of tiles.children) {
      const canvas = tile.querySelector("canvas"), context = canvas.getContext("2d");
      canvas.width = canvas.height = Math.round(first.clientWidth * devicePixelRatio);
      context.imageSmoothingEnabled = false; // pixels must stay visible
      const draw = (image, alpha) => {
        const rx = image.naturalWidth * half[0] * 2, ry = image.naturalHeight * half[1] * 2;
        context.globalAlpha = alpha;
        context.drawImage(image, cx * image.naturalWidth - rx / 2, cy * image.naturalHeight - ry / 2, rx, ry, 0, 0, canvas.width, canvas.height);
      };
      if (tile.dataset.place === undefined) draw(images[tile.dataset.role], 1);
      else { draw(images.accurate, 1); draw(images.realistic, fraction(Number(tile.dataset.place))); }
    }
  };
  const layout = () => {
    const { width, height } = current(), available = root.clientWidth;
    const scale = Math.min(available / width, Math.max(320, 0.5 * innerHeight) / height, 3);
    stage.style.width = `${Math.round(width * scale)}px`;
    stage.style.aspectRatio = `${width} / ${height}`;
    find(".columns").classList.toggle("beside", available - width * scale > 480);
    drawStage();
    drawTiles();
  };
  const selectPhoto = (index) => {
    state.photo = index;
    state.isFixed = false;
    [state.x, state.y] = current().focus;
    const { images } = current(), extra = ["input", "truth"].filter((role) => images[role]);
    [...tabs.children].forEach((tab, i) => tab.setAttribute("aria-pressed", i === index));
    find(".sizes").textContent = current().note;
    shown.replaceChildren(...["network", ...extra].map((role) => new Option(role, role)));
    tiles.replaceChildren(...[...places.map((place) => ({ place })), ...extra.map((role) => ({ role }))].map(({ place, role }) => {
      const tile = document.createElement("figure"), caption = document.createElement("figcaption"), name = document.createElement("b");
      Object.assign(tile.dataset, role ? { role } : { place });
      name.textContent = role ?? `slider ${place}`;
      caption.append(name);
      tile.append(document.createElement("canvas"), caption);
      return tile;
    }));
    layout();
  };
  const movePointer = (event) => {
    const box = stage.getBoundingClientRect();
    [state.x, state.y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    drawTiles();
  };
  stage.addEventListener("pointermove", (event) => { if (!state.isFixed) movePointer(event); });
  stage.addEventListener("click", (event) => { state.isFixed = !state.isFixed; movePointer(event); });
  slider.addEventListener("input", () => { shown.value = "network"; drawStage(); });
  shown.addEventListener("change", drawStage);
  tabs.hidden = photos.length < 2;
  tabs.append(...photos.map((photo, i) => {
    const tab = document.createElement("button"), thumbnail = document.createElement("img"), name = document.createElement("span");
    thumbnail.src = photo.images.accurate.src;
    thumbnail.alt = "";
    tab.title = photo.name;
    name.textContent = photo.name.replace(/\.\w+$/, "");
    tab.append(thumbnail, name);
    tab.type = "button";
    tab.addEventListener("click", () => selectPhoto(i));
    return tab;
  }));
  for (const gallery of root.querySelectorAll(".gallery")) gallery.hidden = true;
  find(".viewer").hidden = false;
  selectPhoto(0);
  Promise.all(photos.flatMap((p) => Object.values(p.images)).map((image) => image.decode().catch(() => null))).then(drawTiles);
  new ResizeObserver(layout).observe(root);
}
