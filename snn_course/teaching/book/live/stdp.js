// Lesson 15: the window of STDP, from one pair of spikes and two traces.
makeFigure(
  [
    { name: "gap", label: "post fires after pre, steps", min: -60, max: 60, step: 1, value: 10 },
    { name: "tauPre", label: "tau_plus, steps", min: 2, max: 60, step: 1, value: 20 },
    { name: "tauPost", label: "tau_minus, steps", min: 2, max: 60, step: 1, value: 30 },
    { name: "shrinkBy", label: "A_minus (A_plus is 1)", min: 0, max: 2, step: 0.05, value: 0.8 },
  ],
  285,
  ({ gap, tauPre, tauPost, shrinkBy }, drawing) => {
    const keepPre = Math.exp(-1 / tauPre);
    const keepPost = Math.exp(-1 / tauPost);
    const change = (distance) => {
      let preTrace = 0;
      let postTrace = 0;
      let weight = 0;
      for (let step = 0; step <= 120; step++) {
        const pre = step === 60 ? 1 : 0;
        const post = step === 60 + distance ? 1 : 0;
        preTrace = keepPre * preTrace;
        postTrace = keepPost * postTrace;
        weight += post * preTrace - shrinkBy * postTrace * pre;  // each spike reads the other's trace
        preTrace += pre;  // after reading: a spike of this very step does not count
        postTrace += post;
      }
      return weight;
    };
    const gaps = Array.from({ length: 121 }, (_, place) => place - 60);
    const changes = gaps.map(change);
    const axes = makeAxes(drawing, {
      top: 26, height: 205, x: [-60, 60], y: [-1.1 * Math.max(1, shrinkBy), 1.1], label: "change of the weight", below: "t_post - t_pre, steps",
    });
    axes.level(0, "0");
    axes.line(gaps.flatMap((value, place) => (value < 0 ? [[value, changes[place]]] : [])), "curve second");
    axes.line(gaps.flatMap((value, place) => (value > 0 ? [[value, changes[place]]] : [])), "curve");
    axes.mark(gap, 0, change(gap));
    const when = gap === 0 ? "at the same step as" : `${several(Math.abs(gap), "step")} ${gap > 0 ? "after" : "before"}`;
    const what = gap === 0 ? "stays as it is" : `${gap > 0 ? "grows" : "shrinks"} by ${Math.abs(change(gap)).toFixed(3)}`;
    return { numbers: { gaps, changes, change: change(gap) }, sentence: `Post fires ${when} pre: the weight ${what}.` };
  },
);
