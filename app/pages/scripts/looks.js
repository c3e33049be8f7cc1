// How clusters are told apart: by colour, then by shape and lightness too, so that no two of 126 look the same.
const HUES = [0, 1, 2, 3, 5, 4, 7]; // of the palette --s0..--s7; its grey, --s6, is noise
const NOISE_HUE = 6;
const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "ring"];
const GREY = -1;

// The clusters come by size: the largest have the plain colours.
const lookOf = (at) =>
  at === GREY
    ? { hue: NOISE_HUE, shade: 0, shape: 0 }
    : { hue: HUES[at % HUES.length], shade: Math.floor(at / HUES.length) % 3, shape: Math.floor(at / HUES.length) % SHAPES.length };

const SHADES = ["", "ink", "ground"]; // plain, nearer to the text's colour, nearer to the background
const cssColor = (at) => {
  const { hue, shade } = lookOf(at);
  return shade ? `color-mix(in srgb,var(--s${hue}) ${shade === 1 ? 62 : 68}%,var(--${SHADES[shade]}))` : `var(--s${hue})`;
};

// Outlines of the shapes of radius 1 around 0, all of about the same area.
const outline = (path, shape, x, y, r) => {
  const polygon = (...points) => {
    points.forEach(([dx, dy], i) => (i ? path.lineTo(x + dx * r, y + dy * r) : path.moveTo(x + dx * r, y + dy * r)));
    path.closePath();
  };
  if (shape === "square") polygon([-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]);
  else if (shape === "triangle") polygon([0, -1.2], [1.15, 0.85], [-1.15, 0.85]);
  else if (shape === "diamond") polygon([0, -1.3], [1.15, 0], [0, 1.3], [-1.15, 0]);
  else if (shape === "cross") {
    polygon([-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4],
      [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]);
  } else {
    path.moveTo(x + r, y);
    path.arc(x, y, r, 0, 2 * Math.PI);
    if (shape === "ring") {
      path.moveTo(x + r * 0.5, y);
      path.arc(x, y, r * 0.5, 0, 2 * Math.PI, true);
    }
  }
};

const PATHS = {
  circle: "M1 7a6 6 0 1 0 12 0a6 6 0 1 0-12 0z", square: "M2 2h10v10h-10z", triangle: "M7 0.5l6.6 12h-13.2z",
  diamond: "M7 0l6.5 7l-6.5 7l-6.5-7z", cross: "M5 0h4v5h5v4h-5v5h-4v-5h-5v-4h5z",
  ring: "M0.5 7a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0-13 0zM4 7a3 3 0 1 1 6 0a3 3 0 1 1-6 0z",
};
const swatch = (at) => {
  const made = svg("svg", { viewBox: "0 0 14 14", "aria-hidden": "true", class: "swatch", style: `fill:${cssColor(at)}` });
  made.append(svg("path", { d: PATHS[SHAPES[lookOf(at).shape]], "fill-rule": "evenodd" }));
  return made;
};
