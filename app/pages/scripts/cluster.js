// The page of `searchctl cluster`.
const STEP = 50;
const unit = data.level === "document" ? "document" : "passage";
const { points, clusters } = data;
const total = points.text.length;
const mapped = find("map") !== null;

const pointItem = (i) => ({
  place: points.names[points.start[i]] + points.place[i], title: points.title[i] < 0 ? null : points.names[points.title[i]],
  text: points.text[i], cut: points.cut[i],
});
const clusterName = (at) => (at < 0 ? "Noise" : clusters[at].title || `Cluster ${clusters[at].id}`);
const tag = (at) =>
  make("span", { class: "tag" }, swatch(at), clusterName(at), at < 0 ? null : make("span", { class: "note" }, ` ${clusters[at].id}`));
const near = (i) =>
  points.near[i] === null ? null : number("to_center", points.near[i], `${cosine(points.near[i])} to the centre`);

const members = new Map();
for (let i = 0; i < total; i++) {
  if (!members.has(points.cluster[i])) members.set(points.cluster[i], []);
  members.get(points.cluster[i]).push(i);
}
for (const list of members.values()) list.sort((a, b) => (points.near[b] ?? 0) - (points.near[a] ?? 0) || a - b);

let map = null;
let table = null;
let rows = [];

const pin = (i) => {
  const box = find("pin");
  box.hidden = i < 0;
  box.dataset.point = i;
  if (i < 0) return box.replaceChildren();
  const item = pointItem(i), at = points.cluster[i];
  box.replaceChildren(
    make("div", { class: "item-head" }, tag(at), near(i),
      make("button", { type: "button", class: "act", onclick: () => table.open(rows.find((row) => row.at === at)) }, "Its cluster"),
      make("button", { type: "button", class: "act", "aria-label": "Let the passage go",
        onclick: () => (map ? map.pin(-1) : pin(-1)) }, "Close")),
    placed(item), passage(item));
};
const keep = (i) => {
  if (map) { map.goTo(i); map.pin(i); find("map").scrollIntoView({ block: "center" }); }
  else { pin(i); find("pin").scrollIntoView({ block: "center" }); }
};
const onMap = (i) =>
  mapped && points.x[i] !== null
    ? make("button", { type: "button", class: "act", onclick: () => keep(i) }, "On the map") : null;

const tipFor = (i) => {
  const item = pointItem(i);
  const text = item.text.length > 260 ? `${item.text.slice(0, 260)} …` : item.text;
  return [tag(points.cluster[i]), placed(item), make("div", { class: "tip-text", dir: "auto" }, text)];
};

// Search and legend: a point is shown where it matches both.
const picked = new Set();
let wantedWords = "";
const haystacks = [];
const haystack = (i) => {
  if (haystacks[i] === undefined) {
    const { place, title, text } = pointItem(i);
    haystacks[i] = folded(`${place}\n${title ?? ""}\n${text}`);
  }
  return haystacks[i];
};
const matches = (i) =>
  (!picked.size || picked.has(points.cluster[i])) && (!wantedWords || haystack(i).includes(wantedWords));

const apply = () => {
  const found = [];
  const shown = new Uint8Array(total);
  for (let i = 0; i < total; i++) if (matches(i)) { shown[i] = 1; found.push(i); }
  map?.show((i) => shown[i], picked);
  const status = find("search-status");
  status.dataset.match = found.length;
  status.textContent = wantedWords || picked.size ? `${count(found.length)} of ${many(total, unit)} match` : many(total, unit);
  const results = find("results"), list = make("ul", { class: "items" });
  results.replaceChildren();
  if (!wantedWords) return;
  results.append(list);
  inSteps({ into: results, total: found.length, step: 8, what: unit, fill: (from, to) =>
    list.append(...found.slice(from, to).map((i) => {
      const item = pointItem(i);
      return make("li", { class: "item" }, make("div", { class: "item-head" }, tag(points.cluster[i]), onMap(i)), placed(item),
        foundText(item));
    })) });
};

// The words around the first place that was found, which is marked.
const foundText = (item) => {
  const at = item.text.toLowerCase().indexOf(wantedWords);
  if (at < 0) return make("div", { class: "found", dir: "auto" }, item.text.slice(0, 200));
  const from = Math.max(0, at - 80), to = at + wantedWords.length;
  return make("div", { class: "found", dir: "auto" }, from ? "… " : "", item.text.slice(from, at),
    make("mark", {}, item.text.slice(at, to)), item.text.slice(to, to + 160), to + 160 < item.text.length ? " …" : "");
};

const legend = () => {
  const list = find("legend"), everything = find("legend-all"), buttons = new Map();
  const press = (at) => {
    if (picked.has(at)) picked.delete(at); else picked.add(at);
    for (const [key, button] of buttons) button.setAttribute("aria-pressed", picked.has(key));
    everything.hidden = !picked.size;
    apply();
  };
  const bySize = clusters.map((_, at) => at).sort((a, b) => clusters[b].size - clusters[a].size);
  for (const at of [...bySize, ...(data.noise?.size ? [GREY] : [])]) {
    const held = at < 0 ? data.noise.size : clusters[at].size;
    const button = make("button", { type: "button", "aria-pressed": "false", "data-cluster": at < 0 ? "noise" : clusters[at].id,
      onclick: () => press(at) }, swatch(at), make("span", { class: "legend-name", dir: "auto" }, clusterName(at)),
      make("span", { class: "note" }, count(held)));
    buttons.set(at, button);
    list.append(make("li", {}, button));
  }
  everything.addEventListener("click", () => { for (const at of [...picked]) press(at); });
};

const example = (item) =>
  make("li", { class: "item" },
    item.medoid ? make("div", { class: "item-head" }, make("span", { class: "badge" }, "most central")) : null,
    placed(item), passage(item));

const keywordList = (keywords) => {
  const most = Math.max(...keywords.map(([, weight]) => weight), 1e-9);
  return make("ul", { class: "keywords" }, ...keywords.map(([word, weight]) =>
    make("li", { style: `--weight:${Math.round((100 * Math.max(0, weight)) / most)}%` }, make("bdi", {}, word),
      " ", number("weight", weight, weight.toPrecision(2)))));
};

const clusterDetail = (row) => {
  const box = make("div", { class: "inside" });
  if (row.at >= 0) {
    const { keywords, examples } = clusters[row.at];
    if (keywords.length) box.append(make("h3", {}, "Words"), keywordList(keywords));
    box.append(make("h3", {}, "Most typical"), make("ul", { class: "items" }, ...examples.map(example)));
  }
  const own = members.get(row.at) ?? [], list = make("ul", { class: "items" });
  box.append(make("h3", {}, row.at < 0 ? "All of them" : "All of them, the nearest to the centre first"), list);
  inSteps({ into: box, total: own.length, step: 20, what: unit, fill: (from, to) =>
    list.append(...own.slice(from, to).map((i) =>
      make("li", { class: "item", "data-point": i }, make("div", { class: "item-head" }, near(i), onMap(i)),
        placed(pointItem(i)), passage(pointItem(i))))) });
  return box;
};

const clusterTable = () => {
  rows = clusters.map((cluster, at) => ({ ...cluster, at }));
  if (data.noise?.size) {
    rows.push({ id: "noise", at: GREY, title: "Noise", size: data.noise.size, share: data.noise.share, documents: null, cohesion: null,
      keywords: [] });
  }
  const kept = clusters.some((cluster) => cluster.known);
  const cell = (name, value, shown, kind) => make("td", { class: kind }, number(name, value, shown));
  table = growingTable({
    table: find("cluster-table"), rows, prefix: "cluster", what: "line", step: STEP, status: find("cluster-status"),
    detail: clusterDetail,
    columns: {
      title: (row) => row.title ?? "", id: (row) => (row.id === "noise" ? null : row.id), size: (row) => row.size,
      share: (row) => row.share, documents: (row) => row.documents, cohesion: (row) => row.cohesion,
    },
    line: (row, opener) => {
      opener.append(swatch(row.at), make("span", { class: "title", dir: "auto" }, clusterName(row.at)),
        kept && row.known === false ? make("span", { class: "badge" }, "new") : "");
      const more = row.keywords.slice(3, 9).map(([word]) => word).join(", ");
      return [
        make("td", {}, opener, more ? make("span", { class: "name", dir: "auto" }, more) : null),
        row.id === "noise" ? make("td", { class: "wide" }, "–") : cell("id", row.id, row.id, "wide"),
        cell("size", row.size, count(row.size)),
        cell("share", row.share, percent(row.share), "wide"),
        cell("documents", row.documents, row.documents === null ? "–" : count(row.documents), "wide"),
        cell("cohesion", row.cohesion, cosine(row.cohesion)),
      ];
    },
  });
};

const sizeCharts = () => {
  const order = [...rows].sort((a, b) => (a.at < 0) - (b.at < 0) || b.size - a.size);
  if (!order.length) return void find("sizes").append(make("p", { class: "note" }, "There is no cluster."));
  const most = Math.max(...order.map((row) => row.size));
  const log = most / Math.max(1, Math.min(...order.map((row) => row.size))) > 300;
  chart(find("sizes"), {
    kind: "bars", x: order.map((_, i) => i), labels: order.map((row) => (row.at < 0 ? "noise" : String(row.id))), y: order.map((row) => row.size),
    log, color: (i) => cssColor(order[i].at), axis: log ? "cluster id (items on a log scale)" : "cluster id (items upright)",
    label: "Sizes of clusters", hint: "Point at a bar",
    tip: (i) => `${clusterName(order[i].at)}: ${many(order[i].size, unit)}, ${percent(order[i].share)}`,
  });
  numbersBelow(find("sizes"), ["cluster", "title", "size"], order.map((row) => [String(row.id), row.title, count(row.size)]));
  if (!data.choice) return;
  const sorted = [...data.choice].sort((a, b) => a.n - b.n);
  chart(find("choice"), {
    kind: "line", x: sorted.map((at) => at.n), y: sorted.map((at) => at.silhouette), axis: "number of clusters", value: (value) => value.toFixed(2),
    tick: (at) => (Number.isInteger(at) ? String(at) : ""), marks: [{ x: clusters.length, name: `${clusters.length} clusters` }],
    label: "Silhouette over the number of clusters", hint: "Higher is better parted", tip: (i) => `${sorted[i].n} clusters: ${sorted[i].silhouette.toFixed(4)}`,
  });
  numbersBelow(find("choice"), ["clusters", "silhouette"], sorted.map((at) => [String(at.n), at.silhouette.toFixed(4)]));
};

clusterTable();
sizeCharts();
if (mapped) {
  map = makeMap(find("map"), { points, clusters, tip: find("tip"), tipFor, onPin: pin });
  legend();
  find("zoom-in").addEventListener("click", () => map.zoom(1.5));
  find("zoom-out").addEventListener("click", () => map.zoom(1 / 1.5));
  find("zoom-home").addEventListener("click", () => map.goHome());
}
const search = () => { wantedWords = folded(find("search").value.trim()); apply(); };
onRest(find("search"), search);
find("search-form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
apply();
