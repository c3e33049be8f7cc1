// Line and bar charts as SVG, drawn at the width they have, so that their words are readable on a phone too.
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

const svg = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// Round numbers from `low` to `high`, about `wanted` of them.
const roundTicks = (low, high, wanted) => {
  const raw = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const ticks = [];
  for (let value = Math.ceil(low / step - 1e-9); value * step <= high + step * 1e-6; value++) {
    ticks.push(Number((value * step).toPrecision(12)));
  }
  return ticks;
};

// Upright scale from 0 to `most`; logarithmic: from a little below 1, where 0 lies on the ground.
const upright = (most, log, top, bottom) => {
  if (!log) {
    const high = most || 1;
    return { at: (value) => bottom - (value / high) * (bottom - top), ticks: roundTicks(0, high, 4) };
  }
  const low = Math.log10(0.7), high = Math.log10(Math.max(2, most));
  const ticks = [];
  const every = Math.max(1, Math.ceil(high / 5));
  for (let decade = 0; decade <= high; decade += every) ticks.push(10 ** decade);
  const at = (value) => (value <= 0 ? bottom : bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top));
  return { at, ticks };
};

// spec: kind "line" | "bars", x: numbers, y: numbers, log, height, axis (words under it), tick(x) and value(y) in
// words, labels (of bars, instead of x), color(i), marks [{x, name}], tip(i) words for a point, chosen(i) called when
// one is pointed at or left (null). Returns {point(i)} to show a point from outside.
const chart = (holder, spec) => {
  const read = make("p", { class: "readout", "aria-live": "polite" }, spec.hint ?? "");
  const picture = svg("svg", { role: "img", tabindex: "0", "aria-label": spec.label });
  holder.append(picture, read);
  const n = spec.x.length;
  const bars = spec.kind === "bars";
  let place = null, cursor = null, at = null;

  const draw = () => {
    const width = Math.max(240, holder.clientWidth), height = spec.height ?? 210;
    const box = { left: 46, right: width - 10, top: spec.marks?.length ? 12 + 14 * spec.marks.length : 10, bottom: height - 38 };
    const y = upright(Math.max(...spec.y, 0), spec.log, box.top, box.bottom);
    const low = spec.x[0] - (bars && !spec.labels ? spec.half : 0);
    const high = spec.x[n - 1] + (bars && !spec.labels ? spec.half : 0);
    const band = (box.right - box.left) / n;
    place = spec.labels
      ? (value) => box.left + (value + 0.5) * band
      : (value) => box.left + ((value - low) / (high - low || 1)) * (box.right - box.left);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", height);
    picture.replaceChildren(...grid(spec, y, box, place, band), ...shapes(spec, y, box, place, band), ...marks(spec, box, place));
    cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
    picture.append(cursor);
    point(at);
  };
  const point = (i) => {
    at = i;
    holder.dataset.point = i ?? "";
    cursor.setAttribute("visibility", i == null ? "hidden" : "visible");
    read.textContent = i == null ? spec.hint ?? "" : spec.tip(i);
    if (i == null) return;
    cursor.setAttribute("x1", place(spec.x[i]));
    cursor.setAttribute("x2", place(spec.x[i]));
  };
  const choose = (i) => { point(i); spec.chosen?.(i); };
  const nearest = (event) => {
    const frame = picture.getBoundingClientRect();
    const x = (event.clientX - frame.left) * (picture.viewBox.baseVal.width / frame.width);
    let best = 0;
    for (let i = 1; i < n; i++) if (Math.abs(place(spec.x[i]) - x) < Math.abs(place(spec.x[best]) - x)) best = i;
    return best;
  };
  picture.addEventListener("pointermove", (event) => choose(nearest(event)));
  picture.addEventListener("pointerdown", (event) => choose(nearest(event)));
  picture.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") choose(null); });
  picture.addEventListener("blur", () => choose(null));
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(Math.min(n - 1, Math.max(0, at == null ? (step > 0 ? 0 : n - 1) : at + step)));
  });
  draw();
  let width = holder.clientWidth;
  new ResizeObserver(() => {
    if (holder.clientWidth !== width) { width = holder.clientWidth; draw(); }
  }).observe(holder);
  return { point };
};

const grid = (spec, y, box, place, band) => {
  const lines = y.ticks.flatMap((value) => [
    svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y.at(value), y2: y.at(value) }),
    svg("text", { x: box.left - 6, y: y.at(value) + 4, "text-anchor": "end" }, (spec.value ?? compact.format)(value)),
  ]);
  const every = spec.labels ? Math.max(1, Math.ceil(34 / band)) : 1;
  const ticks = spec.labels
    ? spec.x.filter((i) => i % every === 0)
    : roundTicks(spec.x[0], spec.x.at(-1), Math.max(2, Math.floor((box.right - box.left) / 70)));
  const names = ticks.map((value) =>
    svg("text", { x: place(value), y: box.bottom + 16, "text-anchor": "middle" },
      spec.labels ? spec.labels[value] : (spec.tick ?? String)(value)));
  const axis = svg("text", { class: "axis", x: (box.left + box.right) / 2, y: box.bottom + 33, "text-anchor": "middle" }, spec.axis);
  return [...lines, svg("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }), ...names, axis];
};

const shapes = (spec, y, box, place, band) => {
  if (spec.kind === "line") {
    const points = spec.x.map((value, i) => `${place(value).toFixed(2)},${y.at(spec.y[i]).toFixed(2)}`);
    const dots = spec.x.length > 40 ? [] : spec.x.map((value, i) =>
      svg("circle", { class: "dot", cx: place(value), cy: y.at(spec.y[i]), r: 3, "data-value": spec.y[i] }));
    return [svg("polyline", { class: "line", points: points.join(" ") }), ...dots];
  }
  const wide = spec.labels ? band * 0.78 : Math.max(1, place(2 * spec.half) - place(0) - 0.4);
  return spec.x.map((value, i) => {
    const top = spec.y[i] ? Math.min(y.at(spec.y[i]), box.bottom - 1.5) : box.bottom;
    return svg("rect", {
      class: "bar", x: place(value) - wide / 2, y: top, width: wide, height: box.bottom - top, "data-value": spec.y[i],
      ...(spec.color ? { style: `fill:${spec.color(i)}` } : {}),
    });
  });
};

const marks = (spec, box, place) =>
  (spec.marks ?? []).flatMap(({ x, name }, number) => {
    const at = place(x);
    const late = at > (box.left + box.right) / 2;
    return [
      svg("line", { class: "mark", x1: at, x2: at, y1: box.top - 6 - 13 * number, y2: box.bottom }),
      svg("text", { class: "mark-name", x: at + (late ? 3 : -3), y: box.top - 9 - 13 * number, "text-anchor": late ? "end" : "start",
        "data-number": number }, name),
    ];
  });

// The numbers of a chart as a table, made when it is opened.
const numbersBelow = (holder, heads, rows) => {
  const folded = make("details", { class: "numbers" }, make("summary", {}, "The numbers"));
  folded.addEventListener("toggle", () => {
    if (folded.childElementCount > 1) return;
    const cells = (tag, line) => make("tr", {}, ...line.map((cell) => make(tag, {}, cell)));
    folded.append(make("div", { class: "scroll", tabindex: "0" },
      make("table", {}, make("thead", {}, cells("th", heads)), make("tbody", {}, ...rows.map((row) => cells("td", row))))));
  });
  holder.append(folded);
};
