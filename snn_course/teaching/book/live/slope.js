// Lesson 07: the slope that a surrogate puts in place of the step's.
const SLOPES = {
  "atan": (k, x) => k / 2 / (1 + (Math.PI / 2 * k * x) ** 2),
  "fast sigmoid": (k, x) => 1 / (1 + k * Math.abs(x)) ** 2,
  "sigmoid": (k, x) => k / (1 + Math.exp(-k * x)) / (1 + Math.exp(k * x)),
  "triangle": (k, x) => k * Math.max(1 - k * Math.abs(x), 0),
  "boxcar": (k, x) => (k * Math.abs(x) < 0.5 ? 1 : 0),
};

makeFigure(
  [
    { name: "shape", label: "shape", options: Object.keys(SLOPES), value: "atan" },
    { name: "k", label: "steepness k", min: 0.1, max: 25, step: 0.1, value: 2 },
    { name: "x", label: "x = membrane - threshold", min: -2, max: 2, step: 0.05, value: -1 },
  ],
  310,
  ({ shape, k, x }, drawing) => {
    const slope = SLOPES[shape];
    const grid = Array.from({ length: 401 }, (_, place) => (place - 200) / 100);
    const slopes = grid.map((value) => slope(k, value));
    const height = slope(k, 0);
    const top = makeAxes(drawing, { top: 26, height: 56, x: [-2, 2], y: [0, 1.1], label: "forward: a step" });
    top.line([[-2, 0], [0, 0], [0, 1], [2, 1]], "curve");
    const bottom = makeAxes(drawing, {
      top: 114, height: 140, x: [-2, 2], y: [0, 1.1 * height], label: "backward: a slope", below: "membrane - threshold",
    });
    bottom.line(grid.map((value, place) => [value, slopes[place]]), "curve second");
    bottom.mark(x, 0, slope(k, x));
    const spike = x > 0 ? 1 : 0;
    const share = slope(k, x) / height;
    return {
      numbers: { spike, slope: slope(k, x), slopes, grid },
      sentence: `At x = ${x.toFixed(2)} the neuron ${spike ? "fires" : "is silent"}, and its gradient is multiplied by `
        + `${slope(k, x).toPrecision(3)}: ${(100 * share).toPrecision(2)} % of the height ${height.toPrecision(3)}.`,
    };
  },
);
