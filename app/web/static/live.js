// Follows a ranking by its events; what they do not tell (time left, trials) is read from the page now and then.
"use strict";

const REFRESH_MILLISECONDS = 5000;
const live = document.querySelector("[data-events]");
const stages = live ? JSON.parse(live.dataset.stages) : {};
const begun = {};
if (live) follow(live.dataset.events);

function follow(address) {
  const source = new EventSource(address);
  let waiting = null;
  source.addEventListener("model", (message) => {
    const model = JSON.parse(message.data);
    const row = document.querySelector(`tr[data-model="${CSS.escape(model.model_id)}"]`);
    if (row) show(row, model);
    if (model.state === "succeeded" || model.state === "failed") refresh(1500);
  });
  source.addEventListener("state", () => refresh(200));
  // The ended page has charts and scripts of its own.
  source.addEventListener("end", () => { source.close(); location.reload(); });
  setInterval(() => document.hidden || refresh(0), REFRESH_MILLISECONDS);

  function refresh(delay) {
    if (waiting) return;
    waiting = setTimeout(async () => {
      try { await renew(); } finally { waiting = null; }
    }, delay);
  }
}

async function renew() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const held = document.activeElement?.getAttribute("href");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || next.isEqualNode(part)) continue;
    const holds = part.contains(document.activeElement);
    part.replaceChildren(...next.childNodes);
    if (part.matches("tbody")) part.closest("table").dispatchEvent(new Event("rows-changed"));
    for (const table of part.querySelectorAll("table[data-table]")) manage(table);
    if (holds && held) part.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
  }
  const told = document.querySelector("[data-told]"), summary = page.querySelector("[data-told]");
  if (summary && told.textContent !== summary.textContent) told.textContent = summary.textContent;
}

function show(row, model) {
  const badge = row.querySelector("[data-state]");
  const bar = row.querySelector("progress");
  badge.textContent = model.state;
  badge.className = "badge " + model.state;
  bar.max = model.total || 1;
  bar.value = model.state === "succeeded" ? bar.max : model.done;
  const words = model.stage ? [stages[model.stage] ?? model.stage] : [];
  if (words.length && model.total > 1) words[0] += ` ${model.done} of ${model.total}`;
  if (model.stage === "forward") {
    const first = begun[model.model_id] ??= model;
    const speed = (model.done - first.done) / ((Date.parse(model.at) - Date.parse(first.at)) / 1000);
    if (speed > 0) {
      row.querySelector("[data-images-per-second]").textContent = speed.toPrecision(3);
      words.push(`${Math.ceil((model.total - model.done) / speed)} s left`);
    }
  }
  row.querySelector("[data-stage]").textContent = words.join(", ");
}
