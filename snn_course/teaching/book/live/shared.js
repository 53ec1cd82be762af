"use strict";
// A figure that moves: controls, a drawing, and a sentence that says what the drawing shows.
// It lives in the section around its script. What it computed is kept there, for tests: section.dataset.numbers.

const MARGIN = 72;  // left of the axes, for words

function makeFigure(controls, height, compute) {
  const section = document.currentScript.parentElement;
  const inputs = controls.map((control) => makeControl(section, control));
  const drawing = element("svg", { role: "img" });
  const sentence = document.createElement("p");
  sentence.setAttribute("aria-live", "polite");
  section.append(drawing, sentence);

  function show() {
    const values = {};
    for (const { name, input, output } of inputs) {
      values[name] = input.type === "range" ? Number(input.value) : input.value;
      if (output) output.textContent = input.value;
    }
    drawing.replaceChildren();
    drawing.setAttribute("viewBox", `0 0 ${drawing.clientWidth || 640} ${height}`);  // so letters keep their size
    const result = compute(values, drawing);
    sentence.textContent = result.sentence;
    drawing.setAttribute("aria-label", result.sentence);
    section.dataset.numbers = JSON.stringify(result.numbers);
  }

  for (const { input } of inputs) input.addEventListener("input", show);
  addEventListener("resize", show);
  show();
}

function makeControl(section, { name, label, options, min, max, step, value }) {
  const row = document.createElement("div");
  const words = document.createElement("label");
  const input = document.createElement(options ? "select" : "input");
  input.id = `live-${name}`;
  words.htmlFor = input.id;
  words.textContent = label;
  row.className = "control";
  row.append(words, input);
  section.append(row);
  if (options) {
    for (const option of options) input.add(new Option(option, option, false, option === value));
    return { name, input };
  }
  Object.assign(input, { type: "range", min, max, step, value });
  const output = document.createElement("output");
  output.htmlFor = input.id;
  row.append(output);
  return { name, input, output };
}

// ------------------------------------------------------------ drawing

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Axes below their label: line, mark, level draw at values of x and y.
function makeAxes(drawing, { top, height, x, y, label, below }) {
  const right = drawing.viewBox.baseVal.width - 16;
  const at = (a, b) => [
    MARGIN + ((a - x[0]) / (x[1] - x[0])) * (right - MARGIN),
    top + height - ((Math.min(Math.max(b, y[0]), y[1]) - y[0]) / (y[1] - y[0])) * height,
  ];
  const word = (place, text, anchor) =>
    drawing.append(element("text", { x: place[0], y: place[1], "text-anchor": anchor }, text));
  const line = (points, name) => {
    const places = points.map(([a, b]) => at(a, b).map((place) => place.toFixed(1)).join(","));
    drawing.append(element("polyline", { points: places.join(" "), class: name }));
  };
  const mark = (a, low = y[0], high = y[1]) => line([[a, low], [a, high]], "spike");
  const level = (b, text) => {
    line([[x[0], b], [x[1], b]], "level");
    word([MARGIN - 6, at(x[0], b)[1] + 4], text, "end");
  };
  line([[x[0], y[0]], [x[1], y[0]]], "axis");
  word([MARGIN, top - 7], label, "start");
  if (below) {
    for (const a of [x[0], Math.floor((x[0] + x[1]) / 2), x[1]]) {
      const [left, bottom] = at(a, y[0]);
      word([left, bottom + 16], String(a), "middle");
    }
    word([(MARGIN + right) / 2, top + height + 34], below, "middle");
  }
  return { line, mark, level };
}

const several = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

// Halves go to the even neighbour, as in PyTorch.
function roundToEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}
