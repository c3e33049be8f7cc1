// Names of clusters on the map, at the medians of their points, the largest first, none over another.
const MOST_CHARS = 26;

// Returns for each cluster the median of its points on the map, or null.
const mediansOf = (clusters, { cluster, x, y }, places) => {
  const members = clusters.map(() => []);
  for (const i of places) if (cluster[i] >= 0) members[cluster[i]].push(i);
  const median = (list, of) => {
    const sorted = Float64Array.from(list, (i) => of[i]).sort();
    return sorted[sorted.length >> 1];
  };
  return members.map((list) => (list.length ? { x: median(list, x), y: median(list, y) } : null));
};

const labelsOf = (clusters, medians) => {
  const bySize = clusters.map((_, at) => at).sort((a, b) => clusters[b].size - clusters[a].size);
  const text = clusters.map(({ title, id }) => {
    const words = title || `cluster ${id}`;
    return words.length > MOST_CHARS ? `${words.slice(0, MOST_CHARS).replace(/[,\s]+\S*$/, "")} …` : words;
  });
  const widths = [];
  // Draws on a context in CSS pixels; returns how many there are.
  return (context, { width, height, toX, toY, shown, ink, halo }) => {
    context.font = '600 12.5px system-ui,"Segoe UI",Helvetica,Arial,sans-serif';
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const taken = [];
    for (const at of bySize) {
      if (!medians[at] || !shown(at)) continue;
      const half = (widths[at] ??= context.measureText(text[at]).width) / 2 + 6;
      const x = toX(medians[at].x), y = toY(medians[at].y);
      if (x < half || x > width - half || y < 12 || y > height - 12) continue;
      const box = [x - half, y - 11, x + half, y + 11];
      if (taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
      taken.push(box);
      context.lineWidth = 4;
      context.strokeStyle = halo;
      context.strokeText(text[at], x, y);
      context.fillStyle = ink;
      context.fillText(text[at], x, y);
    }
    return taken.length;
  };
};
