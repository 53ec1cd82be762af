// Lesson 02: one pixel in three codes: rate, latency, phase.
// Fair numbers from 0 to 1, the same for the same draw (mulberry32, by Tommy Ettinger; public domain).
function uniforms(draw, count) {
  let state = draw;
  return Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  });
}

makeFigure(
  [
    { name: "x", label: "grey value x, 0 to 1", min: 0, max: 1, step: 0.01, value: 0.5 },
    { name: "steps", label: "num_steps", min: 2, max: 50, step: 1, value: 25 },
    { name: "draw", label: "draw of the rate code", min: 1, max: 50, step: 1, value: 1 },
  ],
  235,
  ({ x, steps, draw }, drawing) => {
    const chances = uniforms(draw, steps);
    const rate = chances.map((chance) => (chance < x ? 1 : 0));

    const last = steps - 1;
    const time = Math.min(Math.max(roundToEven(last * (1 - x)), 0), last);
    const latency = Array.from({ length: steps }, (_, step) => (step === time && x >= 0.01 ? 1 : 0));

    const grey = roundToEven(x * 255);
    const cycle = Math.min(8, steps);  // with fewer than 8 steps, only the first bits fit
    const cycles = Math.floor(steps / cycle);
    const phase = Array.from({ length: steps }, (_, step) =>
      step < cycle * cycles ? (grey >> (7 - (step % cycle))) & 1 : 0);

    const read = {
      rate: rate.reduce((sum, spike) => sum + spike, 0) / steps,
      latency: x >= 0.01 ? 1 - time / last : 0,
      phase: Math.min(phase.reduce((sum, spike, step) => sum + (spike * 2 ** (7 - (step % cycle))) / 255, 0) / cycles, 1),
    };
    const codes = { rate, latency, phase };
    Object.entries(codes).forEach(([name, spikes], place) => {
      const axes = makeAxes(drawing, {
        top: 26 + 60 * place, height: 34, x: [0, steps], y: [0, 1], label: name,
        below: place === 2 ? "time, steps" : "",
      });
      spikes.forEach((spike, step) => spike && axes.mark(step, 0, 0.8));
    });
    const told = Object.entries(read).map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ");
    return { numbers: { ...codes, chances, read }, sentence: `x is ${x.toFixed(2)}. Read back from the spikes: ${told}.` };
  },
);
