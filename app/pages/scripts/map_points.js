// Points of the map: drawn straight into pixels, which takes a few milliseconds for tens of thousands of them, and
// found again by a grid.
const FAINT = 0.16; // of a point's colour, where it is filtered out

// Returns the marks of all shapes at a radius in device pixels: offsets and how much each pixel is covered, 0 to 256.
const stamps = (radius) => {
  const side = 2 * Math.ceil(radius * 1.4) + 1, middle = (side - 1) / 2;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return SHAPES.map((shape) => {
    context.clearRect(0, 0, side, side);
    context.beginPath();
    outline(context, shape, middle + 0.5, middle + 0.5, radius);
    context.fill();
    const alpha = context.getImageData(0, 0, side, side).data;
    const dx = [], dy = [], cover = [];
    for (let i = 0; i < side * side; i++) {
      if (alpha[4 * i + 3] < 8) continue;
      dx.push((i % side) - middle);
      dy.push(Math.floor(i / side) - middle);
      cover.push(Math.round((alpha[4 * i + 3] * 256) / 255));
    }
    return { dx: Int32Array.from(dx), dy: Int32Array.from(dy), step: new Int32Array(dx.length), cover: Int32Array.from(cover), reach: middle };
  });
};

// Returns what a CSS colour of the page is now, as [r, g, b].
const rgbOf = (color) => {
  const context = (rgbOf.context ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true }));
  rgbOf.probe ??= document.body.appendChild(make("span", { hidden: true }));
  rgbOf.probe.style.color = color;
  context.fillStyle = getComputedStyle(rgbOf.probe).color;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};

// Draws the points `order`, in their order, each at px[i], py[i] in device pixels. `pixels` are 0xAABBGGRR as signed
// 32-bit integers: only so does the engine compute in integers, which is several times as fast. Red and blue are
// blended in one product, as neither runs into the other.
const drawPoints = (pixels, width, height, { px, py, order, cluster, status, colors, marks, strength }) => {
  for (const mark of new Set(marks)) {
    for (let n = 0; n < mark.dx.length; n++) mark.step[n] = mark.dy[n] * width + mark.dx[n];
  }
  const full = Math.round(256 * strength), faint = Math.round(256 * FAINT);
  for (let k = 0; k < order.length; k++) {
    const i = order[k], at = cluster[i] + 1, mark = marks[at], reach = mark.reach;
    const x0 = Math.round(px[i]), y0 = Math.round(py[i]);
    if (x0 < -reach || y0 < -reach || x0 >= width + reach || y0 >= height + reach) continue;
    const inside = x0 >= reach && y0 >= reach && x0 < width - reach && y0 < height - reach;
    const { dx, dy, cover, step } = mark;
    const color = colors[at], redBlue = color & 0xff00ff, green = (color >> 8) & 0xff;
    const alpha = status[i] ? full : faint, middle = y0 * width + x0, length = cover.length;
    for (let n = 0; n < length; n++) {
      if (!inside) {
        const x = x0 + dx[n], y = y0 + dy[n];
        if (x < 0 || y < 0 || x >= width || y >= height) continue;
      }
      const here = middle + step[n], under = pixels[here];
      const a = (cover[n] * alpha) >> 8, rest = 256 - a;
      const rb = ((Math.imul(under & 0xff00ff, rest) + Math.imul(redBlue, a)) >>> 8) & 0xff00ff;
      const g = (((under >> 8) & 0xff) * rest + green * a) & 0xff00;
      pixels[here] = 0xff000000 | rb | g;
    }
  }
};
const packed = ([r, g, b]) => 0xff000000 | (b << 16) | (g << 8) | r;

// A grid over the points: of a place on the map, the nearest point that is shown.
const gridOf = (x, y, places) => {
  const side = Math.max(1, Math.min(256, Math.round(Math.sqrt(places.length / 2))));
  const cell = (value) => Math.max(0, Math.min(side - 1, Math.floor(((value + 1) / 2) * side)));
  const starts = new Uint32Array(side * side + 1);
  for (const i of places) starts[cell(y[i]) * side + cell(x[i]) + 1]++;
  for (let c = 0; c < side * side; c++) starts[c + 1] += starts[c];
  const next = starts.slice(), sorted = new Uint32Array(places.length);
  for (const i of places) sorted[next[cell(y[i]) * side + cell(x[i])]++] = i;
  return (atX, atY, reach, shown) => {
    let best = -1, least = reach * reach;
    for (let row = cell(atY - reach); row <= cell(atY + reach); row++) {
      const from = starts[row * side + cell(atX - reach)], to = starts[row * side + cell(atX + reach) + 1];
      for (let k = from; k < to; k++) {
        const i = sorted[k], far = (x[i] - atX) ** 2 + (y[i] - atY) ** 2;
        if (shown[i] && far <= least) [best, least] = [i, far];
      }
    }
    return best;
  };
};
