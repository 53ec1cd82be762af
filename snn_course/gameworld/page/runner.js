// The course's runner game: seeded obstacles, a fixed time step, drawn in rectangles of one ink each.
// snn_course/gameworld/runner.py is its twin, statement by statement: a test holds both equal, pixel by pixel.
"use strict";

/** Seeded numbers 0 .. 1: Tommy Ettinger's mulberry32, 32-bit arithmetic alone. */
class Dice {
  constructor(seed) { this.state = seed >>> 0; }
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  below(count) { return Math.floor(this.next() * count); }
}

class Runner {
  constructor(rules, seed) {
    this.rules = rules;
    this.reset(seed);
  }

  reset(seed) {
    const { ground, clouds, runner, speed } = this.rules;
    this.seed = seed >>> 0;
    this.dice = new Dice(seed);
    this.step = 0;
    this.distance = 0;
    this.speed = speed.start;
    this.y = runner.ground;
    this.velocity = 0;
    this.jumping = false;
    this.held = false;
    this.crashed = false;
    this.obstacles = [];
    this.specks = [];
    for (let i = 0; i < ground.specks; i++)
      this.specks.push([this.dice.below(ground.length), ground.top + this.dice.below(ground.rows), 1 + this.dice.below(ground.longest)]);
    this.clouds = [];
    for (let i = 0; i < clouds.count; i++)
      this.clouds.push([this.dice.below(clouds.length), clouds.top + this.dice.below(clouds.rows)]);
    this.kinds = [];
  }

  get score() { return Math.floor(this.distance * this.rules.points_per_pixel); }
  get night() { return Math.floor(this.score / this.rules.night_every) % 2 === 1; }

  /** One step of 1/60 s. held: whether the jump key is down. */
  advance(held) {
    if (this.crashed) return;
    const { speed } = this.rules;
    this.step += 1;
    this.speed = Math.min(speed.most, this.speed + speed.gain);
    this.distance += this.speed;
    this.jump(held);
    for (const o of this.obstacles) o.x -= this.speed + o.drift;
    this.obstacles = this.obstacles.filter((o) => o.x + o.width > 0);
    if (this.step >= this.rules.clear_steps) this.grow();
    this.crashed = this.obstacles.some((o) => this.touches(o));
  }

  jump(held) {
    const r = this.rules.runner;
    const pressed = held && !this.held; // in the air a key that goes down does nothing, then or later
    this.held = held;
    if (pressed && !this.jumping) {
      this.jumping = true;
      this.velocity = r.jump - this.speed * r.jump_per_speed;
    }
    if (!this.jumping) return;
    this.y += Math.floor(this.velocity + 0.5);
    this.velocity += r.gravity;
    const ends = this.y < r.highest || (!held && this.y < r.shortest);
    if (ends && this.velocity < r.released) this.velocity = r.released;
    if (this.y >= r.ground) {
      this.y = r.ground;
      this.velocity = 0;
      this.jumping = false;
    }
  }

  grow() {
    const last = this.obstacles[this.obstacles.length - 1];
    if (last && last.x + last.width + last.gap >= this.rules.width) return;
    const { gap, obstacles, width } = this.rules;
    let kind = this.dice.below(obstacles.length);
    while (obstacles[kind].from_speed > this.speed || this.kinds.slice(-2).filter((k) => k === kind).length === 2)
      kind = this.dice.below(obstacles.length);
    this.kinds.push(kind);
    const rule = obstacles[kind];
    let count = 1 + this.dice.below(3);
    if (this.speed < rule.groups_from) count = 1;
    const wide = rule.width * count;
    const y = rule.heights[this.dice.below(rule.heights.length)];
    const drift = this.dice.next() < 0.5 ? -rule.drift : rule.drift;
    const least = Math.floor(wide * this.speed + rule.least_gap * gap.coefficient + 0.5);
    const room = least + Math.floor(this.dice.next() * (least * gap.spread - least));
    this.obstacles.push({ kind, count, x: width, y, width: wide, drift, gap: room });
  }

  touches(o) {
    const r = this.rules.runner;
    const rule = this.rules.obstacles[o.kind];
    const left = o.x + rule.box[0];
    const right = left + rule.box[2] + rule.width * (o.count - 1);
    const top = o.y + rule.box[1];
    const apart = r.x + r.box[0] >= right || left >= r.x + r.box[0] + r.box[2];
    return !(apart || this.y + r.box[1] >= top + rule.box[3] || top >= this.y + r.box[1] + r.box[3]);
  }

  /** Draw with fill(x, y, width, height, ink); what comes later covers what came before. */
  draw(fill) {
    const { ground, clouds, score, runner, obstacles, ink, width } = this.rules;
    const put = (parts, x, y, shade) => { for (const p of parts) fill(x + p[0], y + p[1], p[2], p[3], shade); };
    const drift = Math.floor(this.distance * clouds.parallax);
    for (const [x, y] of this.clouds) {
      const at = (((x - drift) % clouds.length) + clouds.length) % clouds.length;
      put(clouds.picture, at - 50, y, clouds.ink);
    }
    fill(0, ground.line, width, 1, ink);
    const run = Math.floor(this.distance) % ground.length;
    for (const [x, y, long] of this.specks) fill(((x - run) % ground.length + ground.length) % ground.length, y, long, 1, ink);
    for (const o of this.obstacles) {
      const rule = obstacles[o.kind];
      const picture = rule.pictures[rule.flap ? Math.floor(this.step / rule.flap) % rule.pictures.length : 0];
      for (let i = 0; i < o.count; i++) put(picture, Math.floor(o.x) + i * rule.width, o.y, ink);
    }
    put(runner.body, runner.x, this.y, ink);
    const stands = this.jumping || this.step === 0;
    put(runner.legs[stands ? 2 : Math.floor(this.step / runner.stride) % 2], runner.x, this.y, ink);
    const text = String(this.score).padStart(score.digits, "0").slice(-score.digits);
    for (let i = 0; i < score.digits; i++) {
      const glyph = score.glyphs[Number(text[i])];
      for (let cell = 0; cell < 15; cell++)
        if (glyph[cell] === "1")
          fill(score.x + i * score.pitch + (cell % 3) * score.block[0], score.y + Math.floor(cell / 3) * score.block[1], score.block[0], score.block[1], ink);
    }
  }
}
