// The page around the runner: keys, the clock, and the contract of GameWorld's games, window.gameAPI.
// ?seed=7 chooses the obstacles; ?clock=manual waits for course.advance(), for tests and for exact replays.
"use strict";

const query = new URLSearchParams(location.search);
const canvas = document.getElementById("game");
const context = canvas.getContext("2d");
const MANUAL = query.get("clock") === "manual";
const MOST_STEPS = 6; // of one frame: after a long pause the game goes on, it does not catch up

const course = { game: null, held: false, attempts: 1, best: 0, started: false };
window.course = course;

function draw() {
  const { game } = course;
  context.clearRect(0, 0, canvas.width, canvas.height);
  game.draw((x, y, wide, high, ink) => {
    context.fillStyle = `rgb(${255 - ink},${255 - ink},${255 - ink})`;
    context.fillRect(x, y, wide, high);
  });
  document.documentElement.classList.toggle("night", game.night);
  course.best = Math.max(course.best, game.score);
}

function reset(seed) {
  course.game.reset(seed);
  course.started = MANUAL;
  course.held = false;
  draw();
}

/** Play steps, each with the key as it stands in held (0 or 1), and draw the last one. */
course.advance = (held) => {
  for (const down of held) course.game.advance(Boolean(down));
  draw();
  return window.retina(canvas);
};

let owed = 0;
let before = 0;
function frame(now) {
  owed += Math.min((now - before) * 0.06, MOST_STEPS);
  before = now;
  let moved = false;
  while (owed >= 0.75) { // a frame that comes a little early still brings its step
    owed -= 1;
    if (!course.started || course.game.crashed) continue;
    course.game.advance(course.held);
    moved = true;
  }
  if (moved) draw();
  requestAnimationFrame(frame);
}

const JUMPS = new Set(["Space", "ArrowUp"]);
addEventListener("keydown", (event) => {
  if (!JUMPS.has(event.code)) return;
  event.preventDefault();
  if (event.repeat) return;
  if (course.game.crashed) { course.attempts += 1; reset(course.game.seed + 1); }
  course.started = true;
  course.held = true;
});
addEventListener("keyup", (event) => { if (JUMPS.has(event.code)) course.held = course.game.held = false; });

function seedOf(options, otherwise) {
  const seed = options && Number.isFinite(options.seed) ? options.seed : otherwise;
  return seed >>> 0;
}

const ready = fetch("rules.json").then((answer) => answer.json()).then((rules) => {
  course.game = new Runner(rules, seedOf({ seed: Number(query.get("seed") ?? 1) }, 1));
  reset(course.game.seed);
  if (!MANUAL) requestAnimationFrame((now) => { before = now; requestAnimationFrame(frame); });
  course.ready = true;
});

window.gameAPI = {
  async init(options) { await ready; if (options && Number.isFinite(options.seed)) reset(seedOf(options)); return { ok: true }; },
  async reset(options) {
    await ready;
    course.attempts += 1;
    reset(seedOf(options, course.game.seed + 1));
    return { ok: true };
  },
  getState() {
    const { game } = course;
    if (!game) return { gameId: "course-runner", status: "loading", is_actionable: false };
    return {
      schemaVersion: 1,
      gameId: "course-runner",
      status: game.crashed ? "terminal" : course.started ? "playing" : "ready",
      is_actionable: !game.crashed,
      gameTimeMs: Math.round(game.step * 1000 / 60),
      terminal: { isTerminal: game.crashed, outcome: game.crashed ? "fail" : null },
      game_state: { score: game.score },
      metrics: { distance: game.distance, speed: game.speed, attempts: course.attempts, high_score: course.best },
    };
  },
};
