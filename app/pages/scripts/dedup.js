// The page of `searchctl dedup`.
const STEP = 50;
const leaks = data.against !== null;
const unit = data.level === "document" ? "document" : "passage";

const curveCharts = () => {
  const curve = data.curve;
  if (!curve.length) {
    find("curve-values").textContent = "There is no pair, so there is no curve.";
    for (const key of ["pairs", "dropped", "bytes"]) find(`curve-${key}`).remove();
    return;
  }
  const said = find("curve-values");
  const line = (at) =>
    `Cosine ${at.threshold.toFixed(2)}: ${many(at.pairs, "pair")}, ${many(at.groups, "group")}, ` +
    `${count(at.dropped)} ${leaks ? "leaked" : "dropped"}, ${size(at.bytes_saved)} ${leaks ? "leaked" : "saved"}`;
  const distance = (at) => Math.abs(at.threshold - data.threshold);
  const own = curve.reduce((best, at, i) => (distance(at) < distance(curve[best]) ? i : best), 0);
  const charts = [];
  const chosen = (i) => {
    said.textContent = line(curve[i ?? own]);
    said.dataset.point = i ?? own;
    for (const other of charts) other.point(i);
  };
  const draw = (key, value, words) => {
    const y = curve.map((at) => at[value]);
    const above = y.filter((count) => count > 0);
    const log = above.length > 1 && Math.max(...above) / Math.min(...above) > 50;
    charts.push(chart(find(`curve-${key}`), {
      kind: "line", x: curve.map((at) => at.threshold), y, log, axis: log ? "cosine threshold (log scale)" : "cosine threshold",
      tick: (at) => at.toFixed(2), value: words, marks: [{ x: data.threshold, name: `chosen: ${data.threshold}` }],
      label: `${key} over the threshold`, tip: () => "", chosen,
    }));
  };
  draw("pairs", "pairs", compact.format);
  draw("dropped", "dropped", compact.format);
  draw("bytes", "bytes_saved", (value) => (value ? size(value).replace(".0 ", " ") : "0"));
  chosen(null);
  numbersBelow(find("curve-numbers"), ["threshold", "pairs", "groups", leaks ? "leaked" : "dropped", "bytes"],
    curve.map((at) => [at.threshold.toFixed(2), count(at.pairs), count(at.groups), count(at.dropped), count(at.bytes_saved)]));
};

const cosineChart = () => {
  const { start, width, counts } = data.histogram;
  const filled = counts.flatMap((value, i) => (value ? [i] : []));
  const holder = find("cosines");
  if (!filled.length) return void holder.append(make("p", { class: "note" }, "There is no pair."));
  const from = filled[0], to = counts.length - 1;
  const edge = (i) => start + i * width;
  const places = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const words = (i) => `${edge(i).toFixed(2)} to ${edge(i + 1).toFixed(2)}`;
  chart(holder, {
    kind: "bars", x: places.map((i) => edge(i) + width / 2), half: width / 2, y: places.map((i) => counts[i]), log: true,
    axis: "cosine (pairs on a log scale)", tick: (at) => at.toFixed(1), label: "Histogram of the cosines of all pairs",
    marks: [{ x: data.threshold, name: `chosen: ${data.threshold}` }, { x: data.floor, name: `pairs known from ${data.floor}` }],
    hint: `${many(counts.reduce((sum, value) => sum + value, 0), "pair")} in all`,
    tip: (i) => `Cosine ${words(places[i])}: ${many(counts[places[i]], "pair")}`,
  });
  numbersBelow(holder, ["cosine", "pairs"], filled.map((i) => [words(i), count(counts[i])]));
};

// Sizes one by one up to 4, then up to the next power of two.
const sizeBins = (sizes) => {
  const bins = [];
  const most = Math.max(...sizes);
  for (let low = Math.min(2, ...sizes); low <= most;) {
    const high = low < 5 ? low : 2 ** Math.ceil(Math.log2(low));
    bins.push({ name: low === high ? `${low}` : `${low}–${high}`, count: sizes.filter((n) => n >= low && n <= high).length });
    low = high + 1;
  }
  return bins;
};

const sizeChart = () => {
  const holder = find("sizes");
  if (!data.groups.length) return void holder.append(make("p", { class: "note" }, "There is no group."));
  const bins = sizeBins(data.groups.map((group) => group.size));
  chart(holder, {
    kind: "bars", x: bins.map((_, i) => i), labels: bins.map((bin) => bin.name), y: bins.map((bin) => bin.count),
    log: Math.max(...bins.map((bin) => bin.count)) > 100, axis: "items in a group (groups upright)", label: "Histogram of group sizes",
    hint: many(data.groups.length, "group"), tip: (i) => `Of size ${bins[i].name}: ${many(bins[i].count, "group")}`,
  });
  numbersBelow(holder, ["size", "groups"], bins.map((bin) => [bin.name, count(bin.count)]));
};

const score = (item) =>
  item.tier === "exact" ? "the same text"
    : item.tier === "near" ? `${percent(item.score)} of the words in common` : `cosine ${cosine(item.score)}`;

const droppedItem = (group, item) =>
  make("li", { class: "item" },
    make("div", { class: "item-head" },
      make("span", { class: `badge ${item.tier}` }, item.tier), number("score", item.score, score(item)),
      item.tier === "semantic" || item.cosine == null ? null : number("cosine", item.cosine, `cosine ${cosine(item.cosine)}`),
      number("bytes", item.bytes, size(item.bytes)), make("span", {}, item.date)),
    placed(item), unifiedDiff(group.kept, item));

const groupDetail = (group) => {
  const list = make("ul", { class: "items" });
  const box = make("div", { class: "inside" },
    make("div", { class: "item kept" },
      make("div", { class: "item-head" }, make("span", { class: "badge" }, leaks ? `in ${data.against}` : "kept"),
        number("bytes", group.kept.bytes, size(group.kept.bytes)), make("span", {}, group.kept.date)),
      placed(group.kept), passage(group.kept)),
    list);
  inSteps({
    into: box, total: group.dropped.length, step: 20, what: leaks ? `leaked ${unit}` : `dropped ${unit}`,
    fill: (from, to) => list.append(...group.dropped.slice(from, to).map((item) => droppedItem(group, item))),
  });
  return box;
};

const groupTable = () => {
  const cell = (group, name, value, shown, kind) => make("td", { class: kind }, number(name, value, shown));
  const table = growingTable({
    table: find("group-table"), rows: data.groups, prefix: "group", what: leaks ? "leak" : "group", step: STEP,
    status: find("group-status"), detail: groupDetail,
    columns: {
      path: (group) => group.kept?.place ?? "", size: (group) => group.size, lowest: (group) => group.lowest,
      bytes_saved: (group) => group.bytes_saved, exact: (group) => group.tiers?.exact, near: (group) => group.tiers?.near,
      semantic: (group) => group.tiers?.semantic,
    },
    line: (group, opener) => {
      opener.append(make("code", { dir: "ltr" }, group.kept.place));
      return [
        make("td", {}, opener, group.kept.title ? make("span", { class: "name", dir: "auto" }, group.kept.title) : null),
        cell(group, "size", group.size, count(group.size)),
        cell(group, "lowest", group.lowest, cosine(group.lowest)),
        cell(group, "bytes_saved", group.bytes_saved, size(group.bytes_saved)),
        ...["exact", "near", "semantic"].map((tier) =>
          cell(group, tier, group.tiers[tier], group.tiers[tier] ? count(group.tiers[tier]) : "–", "wide")),
      ];
    },
  });
  const haystacks = new Map();
  const haystack = (group) => {
    if (!haystacks.has(group.id)) {
      const all = [group.kept, ...group.dropped].map((item) => `${item.place}\n${item.title ?? ""}\n${item.text}`);
      haystacks.set(group.id, folded(all.join("\n")));
    }
    return haystacks.get(group.id);
  };
  const filter = () => {
    const wanted = folded(find("group-text").value.trim());
    const tier = find("group-tier").value;
    table.keep((group) => (!tier || group.tiers[tier] > 0) && (!wanted || haystack(group).includes(wanted)));
  };
  onRest(find("group-text"), filter);
  find("group-tier").addEventListener("change", filter);
  find("group-filters").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
};

const borderPair = (pair) => {
  const [left, right] = sideBySide(pair.a, pair.b);
  return make("article", { class: "pair" },
    make("div", { class: "item-head" }, number("cosine", pair.cosine, `cosine ${pair.cosine.toFixed(4)}`),
      pair.jaccard === null ? null : number("jaccard", pair.jaccard, `${percent(pair.jaccard)} of the words in common`)),
    make("div", { class: "sides" }, make("div", {}, placed(pair.a), left), make("div", {}, placed(pair.b), right)));
};

const border = (side) => {
  const holder = find(side), pairs = data.border[side], list = make("div");
  holder.append(list);
  inSteps({ into: holder, total: pairs.length, step: 5, what: "pair",
    fill: (from, to) => list.append(...pairs.slice(from, to).map(borderPair)) });
};

curveCharts();
cosineChart();
sizeChart();
groupTable();
border("accepted");
border("rejected");
