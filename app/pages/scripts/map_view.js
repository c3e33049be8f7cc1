// The map: what part of it is seen, how it is moved, and what is pointed at. Its state can be read from the canvas.
const MOST_ZOOM = 60;
const REACH = 9; // pixels from a point at which it is pointed at

const makeMap = (canvas, { points, clusters, tip, tipFor, onPin }) => {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const all = points.x.length;
  const places = Int32Array.from({ length: all }, (_, i) => i).filter((i) => points.x[i] !== null);
  const cluster = Int32Array.from(points.cluster);
  const x = Float64Array.from(points.x), y = Float64Array.from(points.y);
  const status = new Uint8Array(all).fill(1);
  const nearest = gridOf(x, y, places);
  const drawLabels = labelsOf(clusters, mediansOf(clusters, points, places));
  const px = new Float32Array(all), py = new Float32Array(all);
  const box = places.reduce((b, i) => [Math.min(b[0], x[i]), Math.min(b[1], y[i]), Math.max(b[2], x[i]), Math.max(b[3], y[i])],
    [Infinity, Infinity, -Infinity, -Infinity]);
  const view = { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2, zoom: 1 };
  const home = { ...view };
  const state = { hover: -1, pin: -1, picked: new Set(), order: places };
  let width = 0, height = 0, ratio = 1, image = null, pixels = null, fit = 1, theme = null, marks = null, radius = 0, wanted = false;

  const scale = () => fit * view.zoom;
  const toX = (value) => width / 2 + (value - view.x) * scale();
  const toY = (value) => height / 2 - (value - view.y) * scale();
  const fromX = (value) => view.x + (value - width / 2) / scale();
  const fromY = (value) => view.y - (value - height / 2) / scale();

  const resize = () => {
    const frame = canvas.parentElement.getBoundingClientRect();
    ratio = Math.min(2, window.devicePixelRatio || 1);
    [width, height] = [Math.max(200, Math.floor(frame.width)), Math.max(200, Math.floor(frame.height))];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    image = context.createImageData(canvas.width, canvas.height);
    pixels = new Int32Array(image.data.buffer);
    fit = 0.92 * Math.min(width / Math.max(box[2] - box[0], 0.05), height / Math.max(box[3] - box[1], 0.05));
    redraw();
  };
  const retheme = () => {
    const word = ([r, g, b]) => `rgb(${r},${g},${b})`;
    const ground = rgbOf("var(--ground)");
    theme = { colors: Int32Array.from([GREY, ...clusters.keys()], (at) => packed(rgbOf(cssColor(at)))), ground: packed(ground),
      ink: word(rgbOf("var(--ink)")), halo: word(ground) };
    redraw();
  };
  const remark = () => {
    const base = Math.max(1.2, Math.min(4.6, 0.42 * Math.sqrt((width * height) / places.length)));
    const now = Math.round(2 * ratio * Math.min(9, base * view.zoom ** 0.35)) / 2;
    if (now === radius) return;
    radius = now;
    const [plain, noise] = [stamps(radius), stamps(Math.max(1, radius * 0.75))];
    marks = [noise[0], ...clusters.map((_, at) => plain[lookOf(at).shape])];
  };
  const ring = (i, size, line) => {
    if (i < 0) return;
    context.beginPath();
    context.arc(toX(x[i]), toY(y[i]), size + radius / ratio, 0, 2 * Math.PI);
    context.lineWidth = line + 2.5;
    context.strokeStyle = theme.halo;
    context.stroke();
    context.lineWidth = line;
    context.strokeStyle = theme.ink;
    context.stroke();
  };
  const draw = () => {
    wanted = false;
    const began = performance.now();
    remark();
    pixels.fill(theme.ground);
    for (const i of places) { px[i] = toX(x[i]) * ratio; py[i] = toY(y[i]) * ratio; }
    drawPoints(pixels, canvas.width, canvas.height, { px, py, order: state.order, cluster, status,
      colors: theme.colors, marks, strength: 0.82 });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const shown = (at) => !state.picked.size || state.picked.has(at);
    const labels = drawLabels(context, { width, height, toX, toY, shown, ink: theme.ink, halo: theme.halo });
    ring(state.hover, 4, 1.5);
    ring(state.pin, 5, 2.5);
    Object.assign(canvas.dataset, { zoom: view.zoom.toFixed(4), x: view.x.toFixed(5), y: view.y.toFixed(5), hover: state.hover,
      pin: state.pin, labels, redrawMs: (performance.now() - began).toFixed(2), frames: Number(canvas.dataset.frames ?? 0) + 1 });
  };
  const redraw = () => {
    if (wanted || !theme || !image) return;
    wanted = true;
    requestAnimationFrame(draw);
  };

  const hover = (i) => {
    if (i !== state.hover) { state.hover = i; redraw(); }
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.replaceChildren(...tipFor(i));
    const left = toX(x[i]), top = toY(y[i]);
    tip.style.left = `${Math.max(6, Math.min(width - tip.offsetWidth - 6, left + 14))}px`;
    tip.style.top = `${top + 18 + tip.offsetHeight > height ? Math.max(6, top - tip.offsetHeight - 14) : top + 14}px`;
  };
  const at = (px_, py_, reach = REACH) => nearest(fromX(px_), fromY(py_), reach / scale(), status);
  const pin = (i) => { state.pin = i; onPin(i); redraw(); };
  const clamp = () => {
    view.zoom = Math.max(1, Math.min(MOST_ZOOM, view.zoom));
    view.x = Math.max(box[0], Math.min(box[2], view.x));
    view.y = Math.max(box[1], Math.min(box[3], view.y));
  };
  // Zooms so that what is at a place of the canvas stays there.
  const zoom = (factor, cx = width / 2, cy = height / 2) => {
    const [wasX, wasY] = [fromX(cx), fromY(cy)];
    view.zoom = Math.max(1, Math.min(MOST_ZOOM, view.zoom * factor));
    view.x += wasX - fromX(cx);
    view.y += wasY - fromY(cy);
    clamp();
    redraw();
  };
  const pan = (dx, dy) => { view.x -= dx / scale(); view.y += dy / scale(); clamp(); redraw(); };
  const goHome = () => { Object.assign(view, home); redraw(); };
  const middle = () => hover(at(width / 2, height / 2, 60));

  steer(canvas, { at, hover, pan, zoom, goHome, middle, zoomed: () => view.zoom > 1.001,
    pin, pinHover: () => pin(state.hover), size: () => [width, height] });
  new ResizeObserver(resize).observe(canvas.parentElement);
  new MutationObserver(retheme).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  resize();
  retheme();
  return {
    zoom, goHome, pin,
    goTo: (i) => {
      if (x[i] === null || points.x[i] === null) return;
      Object.assign(view, { x: x[i], y: y[i], zoom: Math.max(view.zoom, 4) });
      clamp();
      redraw();
    },
    // Shows the points of `wanted(i)` plainly and the rest faintly and below them; `picked` clusters keep their names.
    show: (wantedPoint, picked) => {
      for (const i of places) status[i] = wantedPoint(i) ? 1 : 0;
      const below = places.filter((i) => !status[i]);
      state.order = new Int32Array(places.length);
      state.order.set(below);
      state.order.set(places.filter((i) => status[i]), below.length);
      state.picked = picked;
      hover(-1);
      redraw();
    },
  };
};

// Pointer, wheel and keys.
const steer = (canvas, map) => {
  const down = new Map();
  let moved = 0;
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    if (down.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event), was = down.get(event.pointerId);
    if (!was) return map.hover(map.at(...now));
    const others = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    down.set(event.pointerId, now);
    moved += Math.abs(now[0] - was[0]) + Math.abs(now[1] - was[1]);
    if (moved < 4) return;
    canvas.classList.add("moving");
    map.hover(-1);
    if (others.length) {
      const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      map.zoom(far(now, others[0]) / far(was, others[0]), (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2);
      map.pan((now[0] - was[0]) / 2, (now[1] - was[1]) / 2);
    } else map.pan(now[0] - was[0], now[1] - was[1]);
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    canvas.classList.remove("moving");
    if (event.type === "pointerup" && moved < 4 && !down.size) {
      const i = map.at(...place(event), event.pointerType === "touch" ? 18 : undefined);
      map.pin(i);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { if (!down.size) map.hover(-1); });
  // At the whole map, a wheel that zooms out scrolls the page on.
  canvas.addEventListener("wheel", (event) => {
    if (event.deltaY > 0 && !map.zoomed()) return;
    event.preventDefault();
    map.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 400), ...place(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => map.pan(60, 0), ArrowRight: () => map.pan(-60, 0), ArrowUp: () => map.pan(0, 60),
      ArrowDown: () => map.pan(0, -60), "+": () => map.zoom(1.4), "=": () => map.zoom(1.4), "-": () => map.zoom(1 / 1.4),
      0: map.goHome, Enter: map.pinHover, Escape: () => map.pin(-1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    if (event.key !== "Enter" && event.key !== "Escape") map.middle();
  });
};
