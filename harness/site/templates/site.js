"use strict";
// Filters and drawings of the tables, and the comparison of two kinds of hardware. Texts are only ever set as text.
document.documentElement.classList.add("js");
const SVG = "http://www.w3.org/2000/svg";

function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, facts) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  return made;
}

const digits = (value) => (value < 1000 ? value.toPrecision(3) : Math.round(value).toLocaleString("en"));
const heads = (table) => [...table.tHead.rows[0].cells];
const tables = [...document.querySelectorAll("table.figure")];

// ------------------------------------------------------------------ cells

function dress(table) {
  const columns = heads(table);
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, i) => {
      if (!columns[i] || cell.colSpan > 1) return;
      cell.className = columns[i].className;
      if (cell.dataset.s !== undefined) return;
      if (!cell.textContent) cell.classList.add("empty");
      else if (i) cell.dataset.name = columns[i].textContent;
    });
}

function plot(table) {
  const columns = heads(table), at = columns.findIndex((head) => head.classList.contains("plot"));
  if (at < 0) return;
  const kind = columns.findIndex((head) => head.classList.contains("backend"));
  const rows = [...table.tBodies[0].rows].filter((row) => row.cells[at] && row.cells[at].dataset.s);
  const values = rows.map((row) => row.cells[at].dataset.s.split(" ").map(Number));
  if (!rows.length) return;
  const low = Math.log10(Math.min(...values.map((each) => each[1]))) - 0.1;
  const high = Math.log10(Math.max(...values.map((each) => each[2]))) + 0.1;
  const x = (value) => `${(100 * (Math.log10(value) - low)) / (high - low)}%`;
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power++)
    for (const step of high - low > 3 ? [1] : high - low > 1.5 ? [1, 3] : [1, 2, 5])
      if (Math.log10(step) + power >= low && Math.log10(step) + power <= high) ticks.push(step * 10 ** power);
  const axis = drawn("svg", { "aria-hidden": "true" });
  for (const tick of ticks) {
    const label = drawn("text", { x: x(tick), y: "1em", "text-anchor": "middle" });
    label.textContent = `${Number(tick.toPrecision(1))} s`;
    axis.append(label);
  }
  columns[at].setAttribute("aria-label", columns[at].textContent);
  columns[at].replaceChildren(axis);
  rows.forEach((row, i) => {
    const [median, least, most] = values[i];
    const picture = drawn("svg", { "aria-hidden": "true", "data-backend": kind < 0 ? "" : row.cells[kind].textContent });
    for (const tick of ticks) picture.append(drawn("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 0, y2: "100%" }));
    picture.append(drawn("line", { class: "range", x1: x(least), x2: x(most), y1: "50%", y2: "50%" }));
    picture.append(drawn("circle", { cx: x(median), cy: "50%", r: 4 }));
    row.cells[at].replaceChildren(picture);
  });
}

// ------------------------------------------------------------------ filters; the address holds their state

function prepare(form) {
  const choices = new Map();
  for (const table of tables)
    heads(table).forEach((head, i) => {
      if (head.dataset.filter === undefined) return;
      const found = choices.get(head.textContent) || { first: head.dataset.filter, values: new Set() };
      for (const row of table.tBodies[0].rows) if (row.cells[i]) found.values.add(row.cells[i].textContent);
      choices.set(head.textContent, found);
    });
  for (const [name, { first, values }] of choices) {
    const select = element("select", { name }, element("option", { value: "all" }, "all"));
    for (const value of [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) select.append(element("option", { value }, value));
    select.dataset.first = values.has(first) ? first : "all";
    if (values.size > 1) form.append(element("label", {}, name, select));
  }
  form.hidden = !form.childElementCount;
  const selects = [...form.querySelectorAll("select")];

  function read() {
    const asked = new URLSearchParams(location.search);
    for (const select of selects) {
      select.value = asked.get(select.name) ?? select.dataset.first;
      if (select.selectedIndex < 0) select.value = select.dataset.first;
    }
    apply();
  }
  function apply() {
    const wanted = new Map(selects.map((select) => [select.name, select.value]));
    for (const table of tables) {
      const columns = heads(table), rows = [...table.tBodies[0].rows];
      const chosen = columns.map((head) => (head.dataset.filter === undefined ? "all" : wanted.get(head.textContent) ?? "all"));
      for (const row of rows)
        row.hidden = chosen.some((value, i) => value !== "all" && row.cells[i] && row.cells[i].textContent !== value);
      const shown = rows.filter((row) => !row.hidden), constant = [];
      columns.forEach((head, i) => {
        // A column with one value is a part of the caption.
        head.hidden = chosen[i] !== "all" || (head.dataset.filter !== undefined && !wanted.has(head.textContent));
        for (const row of rows) if (row.cells[i]) row.cells[i].hidden = head.hidden;
        if (head.hidden && shown.length && shown[0].cells[i]) constant.push(`${head.textContent} ${shown[0].cells[i].textContent}`);
      });
      table.querySelector(".shown").textContent = [`${shown.length} of ${rows.length} rows`, ...constant].join(", ") + ".";
    }
    for (const link of document.querySelectorAll(".choices a")) link.search = location.search;
  }
  form.addEventListener("change", () => {
    const state = new URLSearchParams(location.search);
    for (const select of selects) {
      state.delete(select.name);
      if (select.value !== select.dataset.first) state.set(select.name, select.value);
    }
    history.pushState(null, "", `${location.pathname}${state.size ? `?${state}` : ""}`);
    apply();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("popstate", read);
  read();
}

// ------------------------------------------------------------------ two kinds of hardware

const loaded = [];
function compare(data) {
  loaded.push(data);
}

// B / A, its 95 % confidence interval, and what it decides.
function ratio(a, b) {
  if (a.s === null || b.s === null) return ["–", "–", ""];
  const text = digits(b.s / a.s);
  if (a.t === null || b.t === null) return [text, "–", "not decided"];
  const half = Math.max(a.t, b.t) * Math.sqrt(a.sd_ln ** 2 / a.n + b.sd_ln ** 2 / b.n);
  const middle = b.mean_ln - a.mean_ln, low = Math.exp(middle - half), high = Math.exp(middle + half);
  return [text, `${digits(low)} – ${digits(high)}`, high < 1 ? "B is faster" : low > 1 ? "B is slower" : "not decided"];
}

function cells(row) {
  const time = [row.s === null ? "" : row.text, row.failed].filter(Boolean).join("; ");
  return [row.backend, time, row.range, String(row.n)];
}

function show(a, b) {
  const key = (row) => JSON.stringify(row.key);
  const differ = (x, y) => a.slug !== b.slug || x.backend !== y.backend;  // a chip compared with itself: CPU and GPU
  const pairs = a.rows.flatMap((x) => b.rows.filter((y) => key(x) === key(y) && differ(x, y)).map((y) => [x, y]));
  const answer = document.getElementById("answer"), place = document.getElementById("table");
  answer.textContent = `A: ${a.name}. B: ${b.name}. ` + (pairs.length ? "" : "They have no case in common.");
  const columns = [["image size"], ["weights", "", "published"], ["image", "", ""], ["model", "", ""], ["variant", "", "stock"], ["dtype", "", ""],
    ["backend of A", "", ""], ["A, s", "number main"], ["range of A", "number"], ["n of A", "number"],
    ["backend of B", "", ""], ["B, s", "number main"], ["range of B", "number"], ["n of B", "number"],
    ["B / A", "number main"], ["95 % CI", "number"], ["result"]];
  const head = element("tr", {}, ...columns.map(([name, kind, first]) =>
    element("th", { scope: "col", class: kind ?? "", ...(first !== undefined && { "data-filter": first }) }, name)));
  const body = element("tbody");
  for (const [x, y] of pairs) {
    const [weights, image, size, ...execution] = x.key;
    const texts = [weights, image, ...execution, ...cells(x), ...cells(y), ...ratio(x, y)];
    body.append(element("tr", {}, element("th", { scope: "row" }, size), ...texts.map((text) => element("td", {}, text))));
  }
  const caption = element("caption", {}, "Seconds per image of A and B, and their ratio: below 1, B needs less time. ", element("span", { class: "shown", "aria-live": "polite" }));
  const table = element("table", { class: "figure" }, caption, element("thead", {}, head), body);
  place.replaceChildren(table);
  place.hidden = !pairs.length;
  dress(table);
  tables.push(table);
  if (pairs.length) prepare(document.getElementById("filters"));
  for (const each of [a, b])
    document.getElementById("sql").append(element("details", {}, element("summary", {}, `The SQL of ${each.name}`), element("pre", {}, each.sql)));
}

function pair(form) {
  const asked = new URLSearchParams(location.search);
  for (const name of ["a", "b"]) form.elements[name].value = asked.get(name) || "";
  const chosen = ["a", "b"].map((name) => form.elements[name].value);  // empty for a name that is no option
  if (chosen.some((slug) => !slug)) return;
  const load = (slug) => new Promise((done, failed) => {
    const script = element("script", { src: `device-${slug}.js` });
    script.onload = () => done(loaded.at(-1));
    script.onerror = failed;
    document.head.append(script);
  });
  load(chosen[0]).then((a) => load(chosen[1]).then((b) => show(a, b)))
    .catch(() => { document.getElementById("answer").textContent = "The data could not be loaded."; });
}

for (const table of tables) { dress(table); plot(table); }
if (document.getElementById("filters")) prepare(document.getElementById("filters"));
if (document.getElementById("pair")) pair(document.getElementById("pair"));
