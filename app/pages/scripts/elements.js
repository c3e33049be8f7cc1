// Elements, words for numbers, tables that sort and grow. Text gets into the page by textContent only.
const data = JSON.parse(document.getElementById("data").textContent);

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== ""));
  return made;
};
const find = (id) => document.getElementById(id);

const count = (value) => value.toLocaleString("en-US");
const many = (value, what) => `${count(value)} ${what}${value === 1 ? "" : "s"}`;
const cosine = (value) => (value == null ? "–" : value.toFixed(3));
const percent = (value) => `${(100 * value).toFixed(1)}%`;
// As `size` in status_report.py says it.
const size = (bytes) => {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${value.toFixed(unit === "B" || value >= 100 ? 0 : 1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
};

// A value in a line of names and values, exact in the element for who compares.
const number = (name, value, shown) => make("data", { "data-name": name, value: value ?? "" }, shown);

const cutMark = (shown, whole) =>
  whole ? make("span", { class: "cut" }, ` [… cut here: ${count(shown)} of ${count(whole)} characters]`) : null;

const passage = (item) =>
  make("div", { class: "passage", dir: "auto" }, item.text, cutMark([...item.text].length, item.cut));

const placed = (item, ...more) =>
  make("div", { class: "where" }, make("code", { dir: "ltr" }, item.place),
    item.title ? make("span", { class: "name", dir: "auto" }, item.title) : null, ...more);

// Calls `fill(from, to)` for the next `step` of `total` each time the button is pressed; the first time at once.
const inSteps = ({ into, total, step, fill, what }) => {
  let shown = 0;
  const words = make("span", { class: "note" });
  const button = make("button", { type: "button", class: "act more", onclick: () => more() });
  const line = make("p", { class: "steps" }, button, words);
  const more = () => {
    const from = shown;
    shown = Math.min(total, shown + step);
    fill(from, shown);
    button.textContent = `Show ${count(Math.min(step, total - shown))} more`;
    button.hidden = shown === total;
    words.textContent = total ? `${count(shown)} of ${many(total, what)} shown` : `No ${what}s`;
  };
  into.append(line);
  more();
  return line;
};

// A table whose lines can be sorted by heads with `data-by`, filtered, opened, and shown in steps.
// columns: { key: (row) => string | number | null }; line(row): cells; detail(row): what an opened line shows.
const growingTable = ({ table, rows, columns, line, detail, step, prefix, what, status }) => {
  const heads = [...table.tHead.querySelectorAll("button[data-by]")];
  // A cell over more columns than are seen would make room for the unseen ones: on a phone some are.
  const width = () => [...table.tHead.rows[0].cells].filter((cell) => getComputedStyle(cell).display !== "none").length;
  addEventListener("resize", () => { for (const cell of table.querySelectorAll(".detail > td")) cell.colSpan = width(); });
  const open = new Set();
  let kept = rows;
  let shown = step;
  const steps = make("button", { type: "button", class: "act more", onclick: () => { shown += step; draw(); } });
  table.parentElement.after(make("p", { class: "steps" }, steps));

  const toggle = (row, opener, tr) => {
    const now = !open.has(row.id);
    if (now) open.add(row.id); else open.delete(row.id);
    opener.setAttribute("aria-expanded", now);
    if (now) tr.after(opened(row)); else tr.nextElementSibling.remove();
  };
  const opened = (row) =>
    make("tr", { class: "detail", id: `${prefix}-${row.id}-detail` }, make("td", { colspan: width() }, detail(row)));
  const drawn = (row) => {
    const tr = make("tr", { id: `${prefix}-${row.id}` });
    const opener = make("button", {
      type: "button", class: "opener", "aria-expanded": open.has(row.id), "aria-controls": `${prefix}-${row.id}-detail`,
      onclick: () => toggle(row, opener, tr),
    });
    tr.append(...line(row, opener));
    return open.has(row.id) ? [tr, opened(row)] : [tr];
  };
  const draw = () => {
    const part = kept.slice(0, shown);
    table.tBodies[0].replaceChildren(...part.flatMap(drawn));
    status.textContent = kept.length === rows.length
      ? `${count(part.length)} of ${many(rows.length, what)} shown`
      : `${count(part.length)} of ${count(kept.length)} that match, of ${many(rows.length, what)}`;
    status.dataset.shown = part.length;
    status.dataset.match = kept.length;
    steps.hidden = part.length === kept.length;
    steps.textContent = `Show ${count(Math.min(step, kept.length - part.length))} more`;
  };
  let order = null;
  const sort = () => {
    if (!order) return;
    const value = columns[order.key];
    const by = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x == null || y == null) return (x == null) - (y == null);
      const first = typeof x === "string" ? x.localeCompare(y) : x - y;
      return order.up ? first : -first;
    };
    kept = [...kept].sort(by);
  };
  for (const head of heads) {
    head.addEventListener("click", () => {
      const key = head.dataset.by;
      const named = typeof columns[key](rows[0] ?? {}) === "string" || key === "id";
      const up = order?.key === key ? !order.up : named;
      order = { key, up };
      for (const other of heads) other.closest("th").removeAttribute("aria-sort");
      head.closest("th").setAttribute("aria-sort", up ? "ascending" : "descending");
      shown = step;
      sort();
      draw();
    });
  }
  draw();
  return {
    keep: (wanted) => { kept = rows.filter(wanted); shown = step; sort(); draw(); },
    open: (row) => {
      const at = kept.indexOf(row);
      if (at < 0) return;
      shown = Math.max(shown, at + 1);
      open.add(row.id);
      draw();
      find(`${prefix}-${row.id}`).scrollIntoView({ block: "start" });
    },
  };
};

// Calls `then` once typing rests.
const onRest = (field, then) => {
  let timer = 0;
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(then, 120); });
};
const folded = (text) => text.normalize("NFKC").toLowerCase();
