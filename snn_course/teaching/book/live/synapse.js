// Lesson 06: input spikes into three neurons, each with a reset that subtracts, and a threshold of 1.
makeFigure(
  [
    { name: "neuron", label: "neuron", options: ["Leaky", "Synaptic", "Alpha"], value: "Synaptic" },
    { name: "alpha", label: "alpha, of the current", min: 0.5, max: 0.98, step: 0.01, value: 0.8 },
    { name: "beta", label: "beta, of the membrane", min: 0.3, max: 0.97, step: 0.01, value: 0.7 },
    { name: "weight", label: "size of an input spike", min: 0.05, max: 2, step: 0.05, value: 0.3 },
    { name: "count", label: "input spikes, 4 steps apart", min: 1, max: 8, step: 1, value: 3 },
  ],
  360,
  ({ neuron, alpha, beta, weight, count }, drawing) => {
    const steps = 60;
    const input = Array.from({ length: steps }, (_, step) =>
      step >= 5 && (step - 5) % 4 === 0 && (step - 5) / 4 < count ? weight : 0);
    if (neuron === "Alpha" && alpha <= beta) {
      return { numbers: null, sentence: "snn.Alpha wants an alpha above beta: its two currents must fade at different speeds." };
    }
    const factor = Math.log(beta) / (Math.log(beta) - Math.log(alpha));
    const spikes = [];
    const membrane = [];
    const current = [];
    let syn = 0;
    let exc = 0;
    let inh = 0;
    let mem = 0;
    for (const cur of input) {
      const fired = mem > 1 ? 1 : 0;  // on the last step, so: reset now
      if (neuron === "Leaky") {
        mem = beta * mem + cur - fired;
        syn = cur;
      } else if (neuron === "Synaptic") {
        syn = alpha * syn + cur;
        mem = beta * mem + syn;
        mem = mem - fired;
      } else {
        const before = inh;
        exc = alpha * exc + cur;
        inh = beta * inh - cur;
        mem = factor * (exc + inh);
        exc = exc - fired;
        inh = inh * (1 - fired);
        mem = mem + fired * before;
        syn = exc;
      }
      spikes.push(mem > 1 ? 1 : 0);
      membrane.push(mem);
      current.push(syn);
    }
    const range = [Math.min(0, ...membrane), 1.05 * Math.max(1, ...membrane, ...current)];
    const top = makeAxes(drawing, { top: 26, height: 160, x: [0, steps], y: range, label: "membrane and current" });
    top.level(1, "threshold");
    top.line(current.map((value, step) => [step, value]), "curve second");
    top.line(membrane.map((value, step) => [step, value]), "curve");
    const middle = makeAxes(drawing, { top: 214, height: 28, x: [0, steps], y: [0, 1], label: "input spikes" });
    input.forEach((value, step) => value && middle.mark(step));
    const bottom = makeAxes(drawing, { top: 272, height: 28, x: [0, steps], y: [0, 1], label: "output spikes", below: "time, steps" });
    spikes.forEach((spike, step) => spike && bottom.mark(step));
    const highest = membrane.indexOf(Math.max(...membrane));
    return {
      numbers: { spikes, membrane, input },
      sentence: `${several(count, "input spike")}, ${several(spikes.reduce((a, b) => a + b), "spike")} out. The membrane (blue) is highest `
        + `${several(highest - 5, "step")} after the first input; orange is the ${neuron === "Alpha" ? "current that pushes up" : "current"}.`,
    };
  },
);
