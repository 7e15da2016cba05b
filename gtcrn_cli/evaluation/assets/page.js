"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const duration = data.durationS;
const SHORTEST_VIEW_S = Math.min(duration, 0.02);
const CROSSFADE_S = 0.004; // time constant: inaudible as a gap and as a click
const SOUND_DEVICE_MS = 2500; // some take a second to wake
const TILE_FRAMES = 1024; // a canvas as long as the recording is more than some browsers take
const PYRAMID = 256; // samples that one pair of extremes stands for
const SPECTRUM = { lowest: -100, highest: -10, colours: ["#000004", "#2d115f", "#721f81", "#b5367a", "#f1605d", "#feae76", "#fcfdbf"] };
const GAIN = { lowest: -40, highest: 0, colours: ["#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffea46"] };

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

const clamp = (value, lowest, highest) => Math.min(Math.max(value, lowest), highest);
const decibels = (byte) => data.floorDb + byte * data.stepDb;
const signed = (text) => text.replace("-", "\u2212");

function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const whole = Math.round(seconds * unit);
  const rest = ((whole % (60 * unit)) / unit).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(whole / (60 * unit))}:${rest}`;
}

/** The columns of a picture: each was told as its difference to the one before, and deflated. */
async function unpack(text) {
  const inflated = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(inflated).arrayBuffer());
  for (let i = data.rows; i < bytes.length; i++) bytes[i] += bytes[i - data.rows];
  return bytes;
}

async function unpackPictures() {
  for (const track of tracks) {
    track.spectrum = await unpack(track.spectrum);
    if (track.gain) track.gain = await unpack(track.gain);
  }
}

// Tracks: as they came, and unpacked

const tracks = data.tracks.map((track, index) => ({
  ...track,
  index,
  colour: track.role === "clean" ? "--track-clean" : `--track-${index}`,
  level: decodeBase64(track.level),
  change: track.change && decodeBase64(track.change),
  buffer: null,
  extremes: null,
}));
let current = 0;
let matched = false;
let repeated = false;
const view = { start: 0, end: duration };

const loudnessOf = (track) => (matched ? track.matchingGain : 1);

// Playing: all tracks run, started at one instant; which one is heard is a matter of gain

const player = {
  context: null,
  fade: null, // the gain that all of this run goes through
  gains: [],
  sources: [],
  playing: false,
  offset: 0, // where the run began, or where it will
  startedAt: 0,

  position() {
    if (!this.playing || !this.sources.length) return this.offset;
    return Math.min(this.offset + Math.max(0, this.context.currentTime - this.startedAt), duration);
  },

  async play() {
    if (!this.context) this.open();
    this.playing = true;
    showPlaying();
    const complaint = setTimeout(showProblem, SOUND_DEVICE_MS, "No sound device answers: check what this computer plays through.");
    await this.context.resume();
    clearTimeout(complaint);
    element("problem").hidden = true;
    if (!this.playing || this.sources.length) return; // stopped, or begun, in the meantime
    if (this.offset >= duration - 0.01) this.offset = 0;
    const now = this.context.currentTime;
    this.fade = this.context.createGain();
    this.fade.gain.setValueAtTime(0, now);
    this.fade.connect(this.context.destination);
    this.startedAt = now + 0.02;
    this.fade.gain.setTargetAtTime(1, this.startedAt, CROSSFADE_S);
    this.gains = tracks.map((track) => {
      const gain = this.context.createGain();
      gain.gain.value = track.index === current ? loudnessOf(track) : 0;
      gain.connect(this.fade);
      return gain;
    });
    this.sources = tracks.map((track, index) => {
      const source = this.context.createBufferSource();
      source.buffer = track.buffer;
      source.connect(this.gains[index]);
      source.start(this.startedAt, Math.min(this.offset, track.buffer.duration));
      return source;
    });
    requestAnimationFrame(follow);
  },

  open() {
    const Context = window.AudioContext || window.webkitAudioContext;
    try {
      // At the recordings' own rate, the browser resamples once, and well.
      this.context = new Context({ sampleRate: tracks[0].buffer.sampleRate });
    } catch {
      this.context = new Context();
    }
  },

  pause() {
    this.offset = this.position();
    this.playing = false;
    this.release();
    showPlaying();
    showPosition();
  },

  release() {
    if (!this.sources.length) return;
    const now = this.context.currentTime;
    this.fade.gain.cancelScheduledValues(now);
    this.fade.gain.setTargetAtTime(0, now, CROSSFADE_S);
    for (const source of this.sources) source.stop(now + 10 * CROSSFADE_S);
    this.sources = [];
  },

  seek(seconds) {
    this.release();
    this.offset = clamp(seconds, 0, duration);
    if (this.playing) this.play();
    showPosition();
  },

  aim() {
    if (!this.sources.length) return;
    // Exponentials of the same constant: what one loses the other gains, and no instant is silent.
    const now = this.context.currentTime;
    this.gains.forEach((gain, index) => {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setTargetAtTime(index === current ? loudnessOf(tracks[index]) : 0, now, CROSSFADE_S);
    });
  },
};

function follow() {
  if (!player.playing) return;
  const position = player.position();
  if (repeated && position >= view.end) player.seek(view.start);
  else if (position >= duration) {
    player.pause();
    player.seek(0);
  } else if (position > view.end) moveView(position);
  showPosition();
  requestAnimationFrame(follow);
}

function listenTo(index) {
  if (index >= tracks.length) return;
  current = index;
  player.aim();
  [...element("tracks").children].forEach((button, i) => button.setAttribute("aria-pressed", i === current));
  for (const panel of panels) panel.figure.classList.toggle("current", panel.track === tracks[current]);
  draw();
}

function toggle(name) {
  if (name === "match") matched = !matched;
  else repeated = !repeated;
  element(name).setAttribute("aria-pressed", name === "match" ? matched : repeated);
  player.aim();
  draw();
}

const togglePlay = () => {
  if (element("play").disabled) return;
  if (player.playing) player.pause();
  else player.play();
};

function showProblem(text) {
  element("problem").textContent = text;
  element("problem").hidden = false;
}

function showPlaying() {
  element("play").classList.toggle("playing", player.playing);
  element("play").querySelector("span").textContent = player.playing ? "Pause" : "Play";
}

function showPosition() {
  const position = player.position();
  const seen = clamp(position, view.start, view.end);
  const x = toX(seen);
  element("playhead").style.transform = `translateX(${x}px)`;
  element("playhead").hidden = seen !== position;
  element("seek").value = position;
  element("seek").setAttribute("aria-valuetext", clock(data.startS + position));
  element("time").textContent = `${clock(data.startS + position)} / ${clock(data.startS + duration)}`;
  drawOverview();
}

// The view: which part of the time all panels show

let gutter = 48;
let width = 0; // of a panel
const plotWidth = () => width - gutter;
const toX = (seconds) => gutter + ((seconds - view.start) / (view.end - view.start)) * plotWidth();
const toSeconds = (x) => view.start + ((x - gutter) / plotWidth()) * (view.end - view.start);

function setView(start, span) {
  const length = clamp(span, SHORTEST_VIEW_S, duration);
  view.start = clamp(start, 0, duration - length);
  view.end = view.start + length;
  draw();
}

const moveView = (start) => setView(start, view.end - view.start);

function zoom(factor, around) {
  const span = clamp((view.end - view.start) / factor, SHORTEST_VIEW_S, duration);
  setView(around - ((around - view.start) / (view.end - view.start)) * span, span);
}

function zoomAroundPlayhead(factor) {
  const position = player.position();
  const inside = position >= view.start && position <= view.end;
  zoom(factor, inside ? position : (view.start + view.end) / 2);
}

// Drawing

const colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["page", "panel", "text", "quiet", "line", "playhead"]) colours[name] = style.getPropertyValue(`--${name}`);
  for (const track of tracks) colours[track.index] = style.getPropertyValue(track.colour);
  gutter = parseFloat(style.getPropertyValue("--gutter"));
}

function palette({ lowest, highest, colours: stops }) {
  const rgb = stops.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, byte) => {
    const at = clamp((decibels(byte) - lowest) / (highest - lowest), 0, 1) * (rgb.length - 1);
    const below = Math.min(Math.floor(at), rgb.length - 2);
    return rgb[below].map((value, i) => Math.round(value + (rgb[below + 1][i] - value) * (at - below)));
  });
}

function paintTiles(matrix, look) {
  const colourOf = palette(look);
  const frames = matrix.length / data.rows;
  const tiles = [];
  for (let first = 0; first < frames; first += TILE_FRAMES) {
    const count = Math.min(TILE_FRAMES, frames - first);
    const canvas = make("canvas", { width: count, height: data.rows });
    const context = canvas.getContext("2d");
    const image = context.createImageData(count, data.rows);
    for (let frame = 0; frame < count; frame++) {
      for (let row = 0; row < data.rows; row++) {
        const at = 4 * ((data.rows - 1 - row) * count + frame);
        const [red, green, blue] = colourOf[matrix[(first + frame) * data.rows + row]];
        image.data[at] = red;
        image.data[at + 1] = green;
        image.data[at + 2] = blue;
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    tiles.push({ canvas, first, count });
  }
  return tiles;
}

const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const highestMel = mel(data.highestHz);
const hzOfFraction = (fraction) => 700 * (10 ** ((fraction * highestMel) / 2595) - 1);

function niceStep(span, most) {
  const rough = span / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  return unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
}

function timeTicks() {
  const span = view.end - view.start;
  let step = niceStep(span, plotWidth() / 90);
  if (step > 5) step = [10, 15, 30, 60, 120, 300, 600].find((s) => s >= span / (plotWidth() / 90)) || 600;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  const from = Math.ceil((data.startS + view.start) / step - 1e-6);
  for (let i = from; i * step <= data.startS + view.end + 1e-9; i++) {
    ticks.push({ seconds: i * step - data.startS, text: clock(i * step, digits) });
  }
  return ticks;
}

function prepare(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  return context;
}

function drawRuler(context, height) {
  context.fillStyle = colours.quiet;
  context.textBaseline = "bottom";
  for (const tick of timeTicks()) {
    const x = toX(tick.seconds);
    context.fillRect(x, height - 4, 1, 4);
    context.textAlign = x > width - 16 ? "right" : x < gutter + 16 ? "left" : "center";
    context.fillText(tick.text, x, height - 5);
  }
}

function drawTimeGrid(context, height) {
  context.fillStyle = colours.line;
  for (const tick of timeTicks()) context.fillRect(toX(tick.seconds), 0, 1, height);
}

function drawAxisLabel(context, text, y, height) {
  context.fillStyle = colours.quiet;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(text, gutter - 5, clamp(y, 6, height - 6));
}

function drawMatrix(context, height, panel) {
  const { hopS } = panel.track;
  const ratio = window.devicePixelRatio || 1;
  const snap = (x) => Math.round(x * ratio) / ratio; // no seam between tiles
  context.save();
  context.beginPath();
  context.rect(gutter, 0, plotWidth(), height);
  context.clip();
  context.fillStyle = colours.panel;
  context.fillRect(gutter, 0, plotWidth(), height);
  context.imageSmoothingEnabled = ((hopS * data.columnHops) / (view.end - view.start)) * plotWidth() < 1;
  context.imageSmoothingQuality = "high";
  for (const tile of panel.tiles) {
    const left = snap(toX((tile.first * data.columnHops - 0.5) * hopS));
    const right = snap(toX(((tile.first + tile.count) * data.columnHops - 0.5) * hopS));
    if (right > gutter && left < width) context.drawImage(tile.canvas, left, 0, right - left, height);
  }
  context.restore();
  let lastY = Infinity;
  for (const hz of [0, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000]) {
    const y = height * (1 - mel(hz) / highestMel);
    if (hz > data.highestHz || lastY - y < 13) continue;
    drawAxisLabel(context, hz < 1000 ? `${hz}` : `${hz / 1000}k`, y, height);
    lastY = y;
  }
}

function extremesOf(buffer) {
  const count = Math.ceil(buffer.length / PYRAMID);
  const lowest = new Float32Array(count);
  const highest = new Float32Array(count);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) {
      const at = Math.floor(i / PYRAMID);
      if (samples[i] < lowest[at]) lowest[at] = samples[i];
      if (samples[i] > highest[at]) highest[at] = samples[i];
    }
  }
  return { lowest, highest };
}

/** Smallest and largest sample of all channels from one index to another. */
function extremesBetween(track, from, to) {
  const { buffer, extremes } = track;
  let lowest = Infinity;
  let highest = -Infinity;
  const include = (low, high, start, end) => {
    for (let i = start; i < end; i++) {
      if (low[i] < lowest) lowest = low[i];
      if (high[i] > highest) highest = high[i];
    }
  };
  if (to - from > 4 * PYRAMID) {
    include(extremes.lowest, extremes.highest, Math.floor(from / PYRAMID), Math.ceil(to / PYRAMID));
  } else {
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const samples = buffer.getChannelData(channel);
      include(samples, samples, from, to);
    }
  }
  return [lowest, highest];
}

let fullHeight = 1; // the largest sample of all tracks

function drawWave(context, height, track, left, right, secondsOf) {
  if (!track.buffer) return;
  const { sampleRate, length } = track.buffer;
  const middle = height / 2;
  const scale = ((middle - 1) / fullHeight) * loudnessOf(track);
  const step = 1 / (window.devicePixelRatio || 1);
  context.fillStyle = colours[track.index];
  for (let x = left; x < right; x += step) {
    const from = Math.max(0, Math.floor(secondsOf(x) * sampleRate));
    const to = Math.min(length, Math.max(from + 2, Math.ceil(secondsOf(x + step) * sampleRate)));
    if (from >= to) continue;
    const [lowest, highest] = extremesBetween(track, from, to);
    const top = clamp(middle - highest * scale, 0, height);
    const bottom = clamp(middle - lowest * scale, 0, height);
    context.fillRect(x, top, step, Math.max(step, bottom - top));
  }
}

function drawWavePanel(context, height, panel) {
  context.fillStyle = colours.panel;
  context.fillRect(gutter, 0, plotWidth(), height);
  drawTimeGrid(context, height);
  drawWave(context, height, panel.track, gutter, width, toSeconds);
}

function drawCurves(context, height, panel) {
  const { lowest, highest } = panel;
  const toY = (value) => height * (1 - (value - lowest) / (highest - lowest));
  context.fillStyle = colours.panel;
  context.fillRect(gutter, 0, plotWidth(), height);
  drawTimeGrid(context, height);
  const step = niceStep(highest - lowest, height / 20);
  for (let value = Math.ceil(lowest / step) * step; value <= highest; value += step) {
    context.fillStyle = colours.line;
    context.fillRect(gutter, toY(value), plotWidth(), 1);
    drawAxisLabel(context, signed(`${value}`), toY(value), height);
  }
  context.save();
  context.beginPath();
  context.rect(gutter, 0, plotWidth(), height);
  context.clip();
  context.lineJoin = "round";
  for (const { track, values } of panel.curves) {
    const framesPerPixel = (view.end - view.start) / track.hopS / plotWidth();
    const stride = Math.max(1, Math.floor(framesPerPixel));
    const first = Math.max(0, Math.floor(view.start / track.hopS / stride) * stride - stride);
    const last = Math.min(values.length, Math.ceil(view.end / track.hopS) + stride + 1);
    context.beginPath();
    for (let frame = first; frame < last; frame += stride) {
      let sum = 0;
      const count = Math.min(stride, values.length - frame);
      for (let i = 0; i < count; i++) sum += values[frame + i];
      const x = toX((frame + (count - 1) / 2) * track.hopS);
      context.lineTo(x, toY(panel.sign * decibels(sum / count)));
    }
    context.strokeStyle = colours[track.index];
    context.lineWidth = track.index === current ? 2.2 : 1.2;
    context.stroke();
  }
  context.restore();
}

function drawOverview() {
  const canvas = element("overview");
  const height = 34;
  const context = prepare(canvas, height);
  const full = canvas.clientWidth;
  const place = (seconds) => (seconds / duration) * full;
  context.drawImage(overviewPicture(full, height), 0, 0, full, height);
  context.fillStyle = colours.quiet;
  context.globalAlpha = 0.35;
  context.fillRect(0, 0, place(view.start), height);
  context.fillRect(place(view.end), 0, full - place(view.end), height);
  context.globalAlpha = 1;
  context.strokeStyle = colours.text;
  context.strokeRect(place(view.start) + 0.5, 0.5, Math.max(2, place(view.end) - place(view.start) - 1), height - 1);
  context.fillStyle = colours.playhead;
  context.fillRect(place(player.position()) - 1, 0, 2, height);
}

const overviewCache = { key: null, canvas: make("canvas") };

/** The whole waveform; it is under the playhead at every frame, so it is kept. */
function overviewPicture(full, height) {
  const ratio = window.devicePixelRatio || 1;
  const track = tracks[current];
  const key = [full, ratio, current, matched, colours[current], Boolean(track.buffer)].join();
  if (overviewCache.key !== key) {
    overviewCache.key = key;
    overviewCache.canvas.width = Math.max(1, Math.round(full * ratio));
    overviewCache.canvas.height = Math.round(height * ratio);
    const context = overviewCache.canvas.getContext("2d");
    context.scale(ratio, ratio);
    drawWave(context, height, track, 0, full, (x) => (x / full) * duration);
  }
  return overviewCache.canvas;
}

let drawing = 0;

/** Draw everything at the next frame. */
function draw() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    width = element("panels").clientWidth;
    for (const panel of panels) panel.draw(prepare(panel.canvas, panel.height), panel.height, panel);
    showPosition();
  });
}

// Panels

const panels = [];

function addPanel(panel, ...caption) {
  panel.canvas = make("canvas", { role: "img", "aria-label": panel.label });
  panel.readout = make("span", { class: "readout" });
  panel.figure = make("figure");
  if (caption.length) panel.figure.append(make("figcaption", {}, ...caption, panel.readout));
  panel.figure.append(panel.canvas);
  element("panels").append(panel.figure);
  panels.push(panel);
}

function chip(track, text = track.name, tag = "span") {
  return make(tag, {}, make("span", { class: "chip", style: `--track: var(${track.colour})` }), text);
}

function scaleOf({ lowest, highest, colours: stops }) {
  const bar = make("i", { style: `background: linear-gradient(to right, ${stops.join(", ")})` });
  return make("span", { class: "scale" }, signed(`${lowest}`), bar, signed(`${highest} dB`));
}

function addPanels() {
  const enhanced = tracks.filter((track) => track.gain);
  const small = window.innerWidth <= 640;
  addPanel({ label: "Time", height: 20, draw: drawRuler });
  for (const track of tracks) {
    const looks = { look: SPECTRUM, matrix: track.spectrum, tiles: paintTiles(track.spectrum, SPECTRUM) };
    addPanel(
      { label: `Spectrogram of ${track.name}`, height: small ? 110 : 150, draw: drawMatrix, track, ...looks },
      chip(track, `${track.index + 1} ${track.name}`, "b"), scaleOf(SPECTRUM), make("span", { class: "heard" }, "\u25c0 heard"),
    );
    addPanel({ label: `Waveform of ${track.name}`, height: small ? 40 : 56, draw: drawWavePanel, track });
  }
  for (const track of enhanced) {
    const looks = { look: GAIN, matrix: track.gain, tiles: paintTiles(track.gain, GAIN) };
    const above = data.highestHz > data.maskHz ? ` up to ${data.maskHz / 1000} kHz, above from the spectra` : "";
    const source = data.gainIsMask ? `the network\u2019s mask${above}` : "estimated from the spectra";
    addPanel(
      { label: `Gain of ${track.name} over time and frequency`, height: small ? 90 : 110, draw: drawMatrix, track, ...looks },
      make("b", {}, "Gain"), chip(track), make("span", {}, source), scaleOf(GAIN),
    );
  }
  addPanel(
    {
      label: "Level over time, in dB", height: 110, draw: drawCurves, lowest: -90, highest: 0, sign: 1,
      curves: tracks.map((track) => ({ track, values: track.level })),
    },
    make("b", {}, "Level, dB"), ...tracks.map((track) => chip(track)),
  );
  if (enhanced.length) {
    const most = Math.max(...enhanced.map((track) => -decibels(track.change.reduce((a, b) => Math.min(a, b), 255))));
    addPanel(
      {
        label: "Level removed over time, in dB", height: 100, draw: drawCurves, sign: -1,
        lowest: -5, highest: clamp(Math.ceil(most / 10) * 10, 20, 80),
        curves: enhanced.map((track) => ({ track, values: track.change })),
      },
      make("b", {}, "Removed, dB"), ...enhanced.map((track) => chip(track)),
    );
  }
  addPanel({ label: "Time", height: 20, draw: drawRuler });
}

function showReadout(event) {
  const hovered = panels.find((panel) => panel.canvas === event.target);
  for (const panel of panels) panel.readout.textContent = "";
  if (!hovered || event.offsetX < gutter) return;
  const seconds = toSeconds(event.offsetX);
  const parts = [clock(data.startS + seconds, 2)];
  if (hovered.matrix) {
    const fraction = clamp(1 - event.offsetY / hovered.height, 0, 0.9999);
    const column = Math.floor(Math.round(seconds / hovered.track.hopS) / data.columnHops);
    const byte = hovered.matrix[column * data.rows + Math.floor(fraction * data.rows)];
    parts.push(`${Math.round(hzOfFraction(fraction))} Hz`);
    if (byte !== undefined) parts.push(signed(`${Math.round(decibels(byte))} dB`));
  }
  for (const { track, values } of hovered.curves || []) {
    const byte = values[Math.round(seconds / track.hopS)];
    if (byte !== undefined) parts.push(signed(`${track.index + 1}: ${(hovered.sign * decibels(byte)).toFixed(1)}`));
  }
  hovered.readout.textContent = parts.join(" \u00b7 ");
}

// Table

function addFigures() {
  const heads = tracks.map((track) => make("th", { scope: "col", style: `--track: var(${track.colour})` }, track.name));
  const formats = tracks.map((track) => {
    const channels = track.channels === 1 ? "mono" : "stereo";
    return make("td", {}, `${track.sampleRate / 1000} kHz ${channels}`);
  });
  const rows = data.figures.map((figure) => {
    const label = figure.unit ? `${figure.label}, ${figure.unit}` : figure.label;
    const cells = tracks.map((track) => {
      const value = track.figures[figure.name];
      return make("td", {}, value === undefined ? "\u2013" : signed(value.toFixed(figure.digits)));
    });
    return make("tr", {}, make("th", { scope: "row" }, label, make("small", {}, figure.meaning)), ...cells);
  });
  const body = make("tbody", {}, make("tr", {}, make("th", { scope: "row" }, "Format"), ...formats), ...rows);
  element("figures").append(make("thead", {}, make("tr", {}, make("td"), ...heads)), body);
  if (data.figures.some((figure) => figure.scored) && duration > data.scoredS) {
    element("scored").textContent = `Scores are those of the first ${data.scoredS} s.`;
  }
}

// Hands

const KEYS = {
  " ": togglePlay,
  l: () => toggle("match"),
  r: () => toggle("repeat"),
  "+": () => zoomAroundPlayhead(2),
  "=": () => zoomAroundPlayhead(2),
  "-": () => zoomAroundPlayhead(0.5),
  0: () => setView(0, duration),
  Home: () => seekAndShow(0),
  ArrowLeft: (event) => seekAndShow(player.position() - (event.shiftKey ? 5 : 1)),
  ArrowRight: (event) => seekAndShow(player.position() + (event.shiftKey ? 5 : 1)),
};

function seekAndShow(seconds) {
  player.seek(seconds);
  const span = view.end - view.start;
  if (player.offset < view.start || player.offset > view.end) setView(player.offset - span / 4, span);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A button that was reached with Tab keeps its own keys.
  if (event.target.matches("button") && (event.key === " " || event.key === "Enter")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key >= "1" && key <= "9") listenTo(Number(key) - 1);
  else if (KEYS[key]) KEYS[key](event);
  else return;
  event.preventDefault();
}

function addHands() {
  document.addEventListener("keydown", onKey);
  const click = (id, action) =>
    element(id).addEventListener("click", (event) => {
      if (event.detail) element(id).blur(); // by pointer: leave the space bar to play and pause
      action();
    });
  tracks.forEach((track) => {
    const id = `listen-${track.index + 1}`;
    const number = `${track.index + 1}`;
    const button = make("button", {
      id, "aria-pressed": "false", "aria-keyshortcuts": number, title: track.name, style: `--track: var(${track.colour})`,
    }, make("kbd", {}, number), " ", track.name);
    element("tracks").append(button);
    click(id, () => listenTo(track.index));
  });
  click("play", togglePlay);
  click("match", () => toggle("match"));
  click("repeat", () => toggle("repeat"));
  click("zoom-in", () => zoomAroundPlayhead(2));
  click("zoom-out", () => zoomAroundPlayhead(0.5));
  click("fit", () => setView(0, duration));
  element("seek").max = duration;
  element("seek").addEventListener("input", (event) => seekAndShow(Number(event.target.value)));
  addPointer();
}

function addPointer() {
  const area = element("panels");
  const pointers = new Map(); // x of each finger or button that is down
  let moved = 0;
  const xOf = (event) => event.clientX - area.getBoundingClientRect().left;
  area.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, xOf(event));
    if (pointers.size === 1) moved = 0;
  });
  window.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined) return;
    const x = xOf(event);
    moved += Math.abs(x - before);
    if (moved < 5) return;
    area.classList.add("dragged");
    if (pointers.size === 1) moveView(view.start + toSeconds(before) - toSeconds(x));
    else {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      zoom(clamp(Math.abs(x - other) / Math.max(1, Math.abs(before - other)), 0.5, 2), toSeconds(other));
    }
    pointers.set(event.pointerId, x);
  });
  const lift = (event) => {
    const was = pointers.delete(event.pointerId);
    area.classList.remove("dragged");
    return was;
  };
  window.addEventListener("pointerup", (event) => {
    if (lift(event) && moved < 5 && xOf(event) >= gutter) player.seek(toSeconds(xOf(event)));
  });
  window.addEventListener("pointercancel", lift);
  area.addEventListener("pointermove", (event) => event.pointerType === "mouse" && showReadout(event));
  area.addEventListener("wheel", (event) => {
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 200), toSeconds(xOf(event)));
    else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) moveView(toSeconds(gutter + sideways));
    else return;
    event.preventDefault();
  }, { passive: false });

  const overview = element("overview");
  const moveTo = (event) => {
    const at = ((event.clientX - overview.getBoundingClientRect().left) / overview.clientWidth) * duration;
    moveView(at - (view.end - view.start) / 2);
  };
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    moveTo(event);
  });
  overview.addEventListener("pointermove", (event) => overview.hasPointerCapture(event.pointerId) && moveTo(event));
}

// Beginning

async function decodeAudio() {
  const rate = clamp(Math.max(...tracks.map((track) => track.sampleRate)), 8000, 96000);
  const Decoder = window.OfflineAudioContext || window.webkitOfflineAudioContext;
  try {
    // An offline context may decode before anybody has touched the page.
    const decoder = new Decoder(1, 1, rate);
    for (const [index, track] of tracks.entries()) {
      track.buffer = await decoder.decodeAudioData(decodeBase64(track.audio).buffer);
      track.extremes = extremesOf(track.buffer);
      data.tracks[index].audio = track.audio = null; // the text is no longer needed
    }
  } catch (error) {
    showProblem(`This browser cannot play the sound of this page (${error.message}); the pictures are complete.`);
    return;
  }
  fullHeight = Math.max(1e-3, ...tracks.flatMap(({ extremes }) => [
    extremes.highest.reduce((a, b) => Math.max(a, b), 0),
    -extremes.lowest.reduce((a, b) => Math.min(a, b), 0),
  ]));
  element("play").disabled = false;
  draw();
}

async function begin() {
  element("title").textContent = data.title;
  const part = data.startS > 0 ? `${clock(data.startS)} to ${clock(data.startS + duration)}` : clock(duration);
  element("summary").textContent = `${part}, ${tracks.length} sounds to compare`;
  element("notes").append(...data.notes.map((note) => make("li", {}, note)));
  element("made").append(...data.made.map((line) => make("p", {}, line)));
  try {
    await unpackPictures();
  } catch (error) {
    showProblem(`This browser is too old for this page: it cannot unpack the pictures (${error.message}).`);
    return;
  }
  readColours();
  addPanels();
  addFigures();
  addHands();
  listenTo(0);
  new ResizeObserver(draw).observe(element("panels"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    draw();
  });
  window.addEventListener("resize", readColours);
  decodeAudio();
}

begin();
