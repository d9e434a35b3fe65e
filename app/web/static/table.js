// Tables marked with data-table: sort by any column, filter rows, hide columns, save as CSV. What was chosen is kept per
// table. Of a long table only the first rows are in the page; more come as it is scrolled.
"use strict";

const CHUNK = 50;
const NEAR_PIXELS = 800;

for (const table of document.querySelectorAll("table[data-table]")) manage(table);

function manage(table) {
  const key = "forerank:" + table.dataset.table;
  const tools = document.querySelector(`[data-tools="${table.dataset.table}"]`);
  const state = Object.assign({ sort: null, hidden: [], same: false }, read(key));
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const box = table.closest(".scroll");
  const name = (head) => head.dataset.column;
  const save = () => { try { localStorage.setItem(key, JSON.stringify(state)); } catch { /* private mode */ } };
  let rows = [...body.rows];
  let shown = rows;
  let attached = CHUNK;

  heads.forEach((head) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending" ||
        (!head.hasAttribute("aria-sort") && head.dataset.sort === "descending");
      state.sort = [name(head), descending];
      sort();
      save();
    });
  });

  for (const button of document.querySelectorAll(`[data-csv="${table.dataset.table}"]`)) {
    button.hidden = false;
    button.addEventListener("click", () => saveCsv(table.dataset.table, [table.tHead.rows[0], ...shown]));
  }

  if (tools) {
    tools.hidden = false;
    const menu = tools.querySelector("[data-columns]");
    if (menu) for (const head of heads.filter((head) => head.dataset.sort && !head.matches("[data-always]"))) {
      const label = document.createElement("label");
      const check = Object.assign(document.createElement("input"), { type: "checkbox", checked: !state.hidden.includes(name(head)) });
      check.addEventListener("change", () => {
        state.hidden = state.hidden.filter((hidden) => hidden !== name(head)).concat(check.checked ? [] : [name(head)]);
        hide();
        save();
      });
      label.append(check, head.querySelector("button").firstChild.textContent.trim());
      menu.append(label);
    }
    const same = tools.querySelector("[data-differences]");
    if (same) {
      same.checked = state.same;
      same.addEventListener("change", () => { state.same = same.checked; hide(); save(); });
    }
    for (const control of tools.querySelectorAll("[data-filter]")) control.addEventListener("input", () => filter());
  }

  function sort(count) {
    const column = state.sort ? heads.findIndex((head) => name(head) === state.sort[0]) : -1;
    if (column >= 0) {
      const sign = state.sort[1] ? -1 : 1;
      const keyed = rows.map((row) => [value(row.cells[column]), row]);
      // What has no value stays at the end whichever way the column is sorted.
      keyed.sort(([a], [b]) => (a === "") - (b === "") ||
        sign * (isNaN(a) || isNaN(b) || a === "" ? String(a).localeCompare(String(b)) : a - b));
      rows = keyed.map(([, row]) => row);
      heads.forEach((head, place) => place === column
        ? head.setAttribute("aria-sort", state.sort[1] ? "descending" : "ascending")
        : head.removeAttribute("aria-sort"));
    }
    filter(count);
  }

  function hide() {
    heads.forEach((head, column) => {
      const first = rows[0]?.cells[column]?.textContent.trim();
      head.hidden = state.hidden.includes(name(head)) || (state.same && rows.length > 1 && !head.matches("[data-always]") &&
        rows.every((row) => row.cells[column]?.textContent.trim() === first));
      for (const row of rows) if (row.cells[column]) row.cells[column].hidden = head.hidden;
    });
  }

  function filter(count = CHUNK) {
    const controls = tools ? [...tools.querySelectorAll("[data-filter]")].filter((control) => control.value !== "") : [];
    shown = rows.filter((row) => controls.every((control) => passes(row, control)));
    table.setAttribute("aria-rowcount", shown.length + 1);
    body.replaceChildren(...shown.slice(0, count));
    const told = tools?.querySelector("[data-count]");
    if (told) told.textContent = controls.length ? `${shown.length} of ${rows.length} shown` : "";
    more();
  }

  function more() {
    while (body.rows.length < shown.length && isNear()) {
      body.append(...shown.slice(body.rows.length, body.rows.length + CHUNK));
    }
    attached = body.rows.length;
  }

  function isNear() {
    const scrolls = box.scrollHeight > box.clientHeight;
    return scrolls ? box.scrollTop + box.clientHeight + NEAR_PIXELS > box.scrollHeight : true;
  }

  function renew() {
    rows = [...body.rows];
    hide();
    sort(Math.max(CHUNK, attached));
  }

  box?.addEventListener("scroll", more, { passive: true });
  table.addEventListener("rows-changed", renew);
  renew();
}

function value(cell) {
  return cell.dataset.value ?? cell.textContent.trim().replace(/^–$/, "");
}

function passes(row, control) {
  const own = row.dataset[control.dataset.filter] ?? "";
  switch (control.dataset.match) {
    case "most": return own !== "" && Number(own) <= Number(control.value) * Number(control.dataset.unit ?? 1);
    case "least": return own !== "" && Number(own) >= Number(control.value) * Number(control.dataset.unit ?? 1);
    case "is": return own === control.value;
    default: return own.toLowerCase().includes(control.value.toLowerCase());
  }
}

// A cell that a spreadsheet would run is quoted.
function saveCsv(name, rows) {
  const line = (row) => [...row.cells].filter((cell) => !cell.hidden).map((cell) => {
    const text = cell.querySelector("time")?.dateTime ?? value(cell);
    const plain = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? "'" + text : text;
    return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  }).join(",");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([rows.map(line).join("\n") + "\n"], { type: "text/csv" }));
  link.download = name + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function read(key) {
  try { return JSON.parse(localStorage.getItem(key)) ?? {}; } catch { return {}; }
}
