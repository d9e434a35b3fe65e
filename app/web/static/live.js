// Follows a ranking by its events; without them the page is read again now and then.
"use strict";

const live = document.querySelector("[data-events]");
if (live) follow(live.dataset.events);

function follow(address) {
  const source = new EventSource(address);
  const told = document.querySelector("[data-told]");
  let waiting = null;
  source.addEventListener("model", (message) => {
    const model = JSON.parse(message.data);
    const row = document.querySelector(`tr[data-model="${CSS.escape(model.model_id)}"]`);
    if (row) show(row, model);
    if (model.state === "succeeded" || model.state === "failed") refresh(1500);
  });
  source.addEventListener("state", () => refresh(200));
  source.addEventListener("end", () => { source.close(); refresh(0, true); });

  function refresh(delay, whole = false) {
    if (whole) { clearTimeout(waiting); waiting = null; }
    if (waiting) return;
    waiting = setTimeout(async () => {
      waiting = null;
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (whole) {
        // The ended page has charts and scripts of its own.
        location.reload();
        return;
      }
      for (const part of document.querySelectorAll("[data-live]")) {
        const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
        if (next) part.replaceChildren(...next.childNodes);
      }
      for (const table of document.querySelectorAll("table[data-table]")) table.dispatchEvent(new Event("rows-changed"));
      const summary = page.querySelector("[data-told]");
      if (told && summary && told.textContent !== summary.textContent) told.textContent = summary.textContent;
    }, delay);
  }
}

function show(row, model) {
  const badge = row.querySelector("[data-state]");
  const bar = row.querySelector("progress");
  const text = row.querySelector("[data-stage]");
  if (badge) { badge.textContent = model.state; badge.className = "badge " + model.state; }
  if (text) text.textContent = model.stage ? `${model.stage}${model.total > 1 ? ` ${model.done} of ${model.total}` : ""}` : "";
  if (bar) { bar.max = model.total || 1; bar.value = model.state === "succeeded" ? bar.max : model.done; }
}
