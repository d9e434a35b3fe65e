// Tables marked with data-table: sort by any column, filter rows, hide columns. What was chosen is kept per table.
"use strict";

for (const table of document.querySelectorAll("table[data-table]")) manage(table);

function manage(table) {
  const key = "forerank:" + table.dataset.table;
  const tools = document.querySelector(`[data-tools="${table.dataset.table}"]`);
  const state = Object.assign({ sort: null, hidden: [], same: false }, read(key));
  const heads = [...table.tHead.rows[0].cells];
  const name = (head) => head.dataset.column;
  const save = () => { try { localStorage.setItem(key, JSON.stringify(state)); } catch { /* private mode */ } };

  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending" ||
        (!head.hasAttribute("aria-sort") && head.dataset.sort === "descending");
      state.sort = [name(head), descending];
      apply();
      save();
    });
  });

  if (tools) {
    tools.hidden = false;
    const menu = tools.querySelector("[data-columns]");
    if (menu) for (const head of heads.filter((head) => head.dataset.sort && !head.matches("[data-always]"))) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !state.hidden.includes(name(head)) });
      box.addEventListener("change", () => {
        state.hidden = state.hidden.filter((hidden) => hidden !== name(head)).concat(box.checked ? [] : [name(head)]);
        apply();
        save();
      });
      label.append(box, head.textContent.trim());
      menu.append(label);
    }
    const same = tools.querySelector("[data-differences]");
    if (same) {
      same.checked = state.same;
      same.addEventListener("change", () => { state.same = same.checked; apply(); save(); });
    }
    for (const control of tools.querySelectorAll("[data-filter]")) control.addEventListener("input", () => filter());
  }

  function apply() {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    if (state.sort) {
      const column = heads.findIndex((head) => name(head) === state.sort[0]);
      if (column >= 0) {
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const sign = state.sort[1] ? -1 : 1;
        const keyed = rows.map((row) => [value(row), row]);
        // What has no value stays at the end whichever way the column is sorted.
        keyed.sort(([a], [b]) => (a === "") - (b === "") ||
          sign * (isNaN(a) || isNaN(b) || a === "" ? String(a).localeCompare(String(b)) : a - b));
        body.replaceChildren(...keyed.map(([, row]) => row));
        heads.forEach((head, place) => place === column
          ? head.setAttribute("aria-sort", state.sort[1] ? "descending" : "ascending")
          : head.removeAttribute("aria-sort"));
      }
    }
    heads.forEach((head, column) => {
      const values = new Set(rows.map((row) => row.cells[column]?.textContent.trim()));
      const hide = state.hidden.includes(name(head)) ||
        (state.same && rows.length > 1 && values.size === 1 && !head.matches("[data-always]"));
      head.hidden = hide;
      for (const row of rows) if (row.cells[column]) row.cells[column].hidden = hide;
    });
    filter();
  }

  function filter() {
    if (!tools) return;
    const controls = [...tools.querySelectorAll("[data-filter]")].filter((control) => control.value !== "");
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !controls.every((control) => passes(row, control));
      shown += !row.hidden;
    }
    const count = tools.querySelector("[data-count]");
    if (count) count.textContent = controls.length ? `${shown} of ${table.tBodies[0].rows.length} shown` : "";
  }

  table.addEventListener("rows-changed", apply);
  apply();
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

function read(key) {
  try { return JSON.parse(localStorage.getItem(key)) ?? {}; } catch { return {}; }
}
