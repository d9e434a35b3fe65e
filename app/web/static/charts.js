// Draws each figure marked with data-chart from the Vega-Lite document beside it, in the page's own colours.
// Expressions are interpreted, not compiled, so that the page needs no `unsafe-eval`.
"use strict";

for (const figure of document.querySelectorAll("[data-chart]")) draw(figure);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const figure of document.querySelectorAll("[data-chart]")) draw(figure);
});

async function draw(figure) {
  const document_ = JSON.parse(document.getElementById(figure.dataset.chart).textContent);
  const style = getComputedStyle(document.documentElement);
  const probe = figure.appendChild(document.createElement("span"));
  const colour = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const text = colour("--text"), muted = colour("--muted"), line = colour("--line"), accent = colour("--accent");
  probe.remove();
  document_.config = {
    background: "transparent", font: style.fontFamily, view: { stroke: null },
    axis: { labelFontSize: 12, titleFontSize: 12, labelColor: muted, titleColor: text, gridColor: line, domainColor: line, tickColor: line, labelLimit: 220 },
    legend: { labelFontSize: 12, labelColor: muted, titleColor: text, orient: "bottom", labelLimit: 240, columns: Math.max(1, Math.floor(figure.clientWidth / 260)) },
    title: { color: text },
    mark: { color: accent }, text: { color: text, fontSize: 12 }, point: { color: accent }, line: { color: accent },
    header: { labelColor: muted, titleColor: text },
  };
  document_.width = figure.clientWidth;
  document_.autosize = { type: "fit-x", contains: "padding" };
  const compiled = vegaLite.compile(document_).spec;
  figure.replaceChildren();
  const view = new vega.View(vega.parse(compiled, null, { ast: true }), {
    expr: vega.expressionInterpreter, renderer: "canvas", container: figure, hover: true,
  });
  await view.runAsync();
}
