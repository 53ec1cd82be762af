// Lesson 01: the neuron of lif_step, under a current that is switched on and off.
makeFigure(
  [
    { name: "beta", label: "beta, what stays", min: 0.5, max: 0.99, step: 0.01, value: 0.9 },
    { name: "threshold", label: "threshold", min: 0.2, max: 2, step: 0.05, value: 1 },
    { name: "current", label: "current, steps 10 to 44", min: 0, max: 1.5, step: 0.01, value: 0.2 },
    { name: "reset", label: "reset", options: ["subtract", "zero", "none"], value: "subtract" },
  ],
  335,
  ({ beta, threshold, current, reset }, drawing) => {
    const steps = 60;
    const spikes = [];
    const membrane = [];
    let mem = 0;
    for (let step = 0; step < steps; step++) {
      const cur = step >= 10 && step < 45 ? current : 0;
      const fired = mem > threshold ? 1 : 0;  // on the last step, so: reset now
      if (reset === "subtract") mem = beta * mem + cur - fired * threshold;
      else if (reset === "zero") mem = beta * mem * (1 - fired) + cur;
      else mem = beta * mem + cur;
      spikes.push(mem > threshold ? 1 : 0);
      membrane.push(mem);
    }
    const high = 1.1 * Math.max(threshold, ...membrane);
    const low = Math.min(0, ...membrane);
    const top = makeAxes(drawing, { top: 26, height: 190, x: [0, steps], y: [low, high], label: "membrane" });
    top.level(threshold, "threshold");
    top.line(membrane.map((value, step) => [step, value]), "curve");
    const bottom = makeAxes(drawing, {
      top: 250, height: 36, x: [0, steps], y: [0, 1], label: "spikes", below: "time, steps",
    });
    const times = spikes.flatMap((spike, step) => (spike ? [step] : []));
    for (const time of times) bottom.mark(time);
    const settled = current / (1 - beta);
    const why = settled <= threshold ? " The current alone would settle the membrane below the threshold" : "";
    return {
      numbers: { spikes, membrane },
      sentence: `${several(times.length, "spike")} in ${steps} steps${times.length ? ", the first at step " + times[0] : ""}.`
        + (why && `${why}, at ${settled.toFixed(2)}.`),
    };
  },
);
