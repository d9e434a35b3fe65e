// Sends an archive with a progress bar.
"use strict";

const form = document.querySelector("form[data-upload]");
if (form) form.addEventListener("submit", (event) => {
  event.preventDefault();
  const bar = form.querySelector("progress"), said = form.querySelector("[role=status]"), button = form.querySelector("button");
  const fields = new FormData(form);
  for (const [name, value] of [...fields]) if (value === "") fields.delete(name);
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("X-CSRF-Token", form.dataset.token);
  bar.hidden = false;
  button.disabled = true;
  const again = (text) => { said.textContent = text; bar.hidden = true; button.disabled = false; };
  request.upload.addEventListener("progress", (step) => {
    bar.max = step.total;
    bar.value = step.loaded;
    said.textContent = `${Math.floor(100 * step.loaded / step.total)} % of ${(step.total / 1e6).toFixed(1)} MB sent`;
  });
  request.addEventListener("load", () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* not ours */ }
    if (request.status < 400 && answer.id) location.assign(`/datasets/${answer.id}`);
    else again(answer.detail ?? `The server answered ${request.status}.`);
  });
  request.addEventListener("error", () => again("The connection was lost; try again."));
  request.send(fields);
});
