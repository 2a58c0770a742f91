"use strict";

// <picture-viewer> shows two pictures of a scene: behind a slider, side by side, or their difference. All that it is told is
// the JSON in it, a list of scenes as sgacodec.viewer.page.Scene describes them. Scales are device pixels per picture's pixel.

const SCALES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32];
const GRAB = 16; // so many CSS pixels from the handle a drag moves it
const KEYS = [
  ["←", "→", "move the slider"], ["Shift", "arrows", "move the enlarged picture; or drag it"],
  ["+", "-", "zoom; the wheel does, too, once the viewer has been clicked"], ["0", "fit the picture in"],
  ["1", "2", "4", "one, two or four pixels of the screen for each of the picture"], ["d", "difference, and back"],
  ["s", "side by side, and back"], ["o", "show the first picture as long as it is held"], ["?", "this list"],
];
const MARKUP = `
  <div class="controls">
    <label data-of="scenes">Scene <select data-at="scene"></select></label>
    <label data-of="pictures">Left <select data-at="left"></select></label>
    <label data-of="pictures">Right <select data-at="right"></select></label>
    <span class="group" role="group" aria-label="Way to compare" data-of="pair">
      <button type="button" data-mode="slider">Slider</button><button type="button" data-mode="side"
        aria-keyshortcuts="s">Side by side</button><button type="button" data-mode="difference"
        aria-keyshortcuts="d">Difference</button>
    </span>
    <label data-of="difference">Amplified <select data-at="gain"><option value="1">1×</option><option value="4">4×</option
      ><option value="8">8×</option><option value="16">16×</option><option value="32">32×</option></select></label>
    <span class="group" role="group" aria-label="Zoom">
      <button type="button" data-zoom="out" aria-label="Zoom out" aria-keyshortcuts="-">−</button><button type="button"
        data-zoom="fit" aria-keyshortcuts="0">Fit</button><button type="button" data-zoom="1" aria-keyshortcuts="1"
        >1:1</button><button type="button" data-zoom="2" aria-keyshortcuts="2">2×</button><button type="button"
        data-zoom="4" aria-keyshortcuts="4">4×</button><button type="button" data-zoom="in" aria-label="Zoom in"
        aria-keyshortcuts="+">+</button><span class="scale"></span>
    </span>
    <button type="button" class="hold" data-of="pair" aria-pressed="false" aria-keyshortcuts="o"></button>
    <button type="button" class="help end" aria-label="Help: keys" aria-keyshortcuts="?" aria-haspopup="dialog">?</button>
  </div>
  <div class="stage" tabindex="0" role="group" aria-label="Pictures">
    <div class="layers">
      <div class="layer left"><div class="frame"><img></div></div>
      <div class="layer right"><div class="frame"><img></div></div>
      <div class="layer held"><div class="frame"><img></div></div>
    </div>
    <div class="handle"></div>
    <span class="tag left"></span><span class="tag right"></span>
  </div>
  <input type="range" min="0" max="100" value="50" aria-label="Slider between the pictures" data-of="slider">
  <p class="quiet" role="status"></p>
  <dialog aria-labelledby="viewer-keys"><h2 id="viewer-keys">Keys</h2><table></table>
    <p>Differences are those of pixels from 1:1 on. Below, pictures are scaled first, which hides most of them.</p>
    <button type="button">Close</button></dialog>`;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

class PictureViewer extends HTMLElement {
  connectedCallback() {
    this.scenes = JSON.parse(this.querySelector("script").textContent);
    this.innerHTML = MARKUP;
    this.find = selector => this.querySelector(selector);
    this.stage = this.find(".stage");
    this.slider = this.find("input");
    Object.assign(this, { mode: "slider", zoom: "fit", held: false, x: 0, y: 0 }); // x, y: what is in the middle
    this.find("dialog table").append(...KEYS.map(keyRow));
    this.find("[data-at=gain]").value = "8";
    fill(this.find("[data-at=scene]"), this.scenes.map(scene => scene.name), 0);
    this.listen();
    this.choose();
    if (this.hasAttribute("focused")) this.stage.focus();
  }

  get scene() { return this.scenes[Number(this.find("[data-at=scene]").value)]; }
  picture(side) { return this.scene.pictures[Number(this.find(`[data-at=${side}]`).value)]; }
  get isPair() { return this.scene.pictures.length > 1; }

  listen() {
    const on = (selector, kind, action) =>
      this.querySelectorAll(selector).forEach(element => element.addEventListener(kind, action));
    on("[data-at=scene]", "change", () => this.choose());
    on("[data-at=left], [data-at=right]", "change", () => this.load());
    on("[data-at=gain]", "change", () => this.draw());
    on("[data-mode]", "click", event => this.compare(event.currentTarget.dataset.mode));
    on("[data-zoom]", "click", event => this.zoomTo(event.currentTarget.dataset.zoom));
    on("input", "input", () => this.draw());
    on(".help", "click", () => this.find("dialog").showModal());
    on("dialog button", "click", () => this.find("dialog").close());
    on(".hold", "pointerdown", () => this.hold(true));
    on(".hold", "keydown", event => [" ", "Enter"].includes(event.key) && this.hold(true));
    on("img", "error", event => event.target.src && this.say(`${event.target.alt}: cannot be loaded`));
    for (const kind of ["pointerup", "pointercancel", "keyup", "blur"]) window.addEventListener(kind, () => this.hold(false));
    this.addEventListener("keydown", event => this.press(event));
    this.stage.addEventListener("pointerdown", event => this.drag(event));
    this.stage.addEventListener("wheel", event => this.wheel(event), { passive: false });
    this.stage.addEventListener("dragstart", event => event.preventDefault());
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  // Takes up a scene.
  choose() {
    const { pictures, left, right, width, height } = this.scene;
    const names = pictures.map(picture => picture.name);
    fill(this.find("[data-at=left]"), names, left);
    fill(this.find("[data-at=right]"), names, right);
    Object.assign(this, { x: width / 2, y: height / 2 });
    this.find(".hold").textContent = `Hold: ${names[0]}`;
    this.load();
  }

  load() {
    const { pictures, width, height } = this.scene;
    const shown = { left: this.picture("left"), right: this.picture("right"), held: pictures[0] };
    for (const [name, picture] of Object.entries(shown)) {
      const image = this.find(`.${name} img`);
      if (!picture) continue;
      image.alt = `${picture.name}, ${width} x ${height} pixels`;
      if (image.getAttribute("src") !== picture.source) image.src = picture.source;
    }
    this.draw();
  }

  compare(mode) {
    if (!this.isPair) return;
    this.mode = mode;
    this.draw();
    this.say({ slider: "Slider", side: "Side by side", difference: "Difference" }[mode]);
  }

  hold(held) {
    if (held === this.held || !this.isPair) return;
    this.held = held;
    this.draw();
    this.say(held ? `${this.scene.pictures[0].name} alone` : "Both pictures");
  }

  say(text) { this.find("[role=status]").textContent = text; }

  // The size of a pane in CSS pixels, and where the second one begins.
  pane() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (this.mode !== "side" || !this.isPair) return { width, height, right: 0, down: 0 };
    if (width < 640 && height > width / 2) return { width, height: height / 2, right: 0, down: height / 2 };
    return { width: width / 2, height, right: width / 2, down: 0 };
  }

  scale() {
    const { width, height } = this.pane(), pixels = window.devicePixelRatio || 1;
    const fit = Math.min(width * pixels / this.scene.width, height * pixels / this.scene.height, 1);
    return this.zoom === "fit" ? fit : this.zoom;
  }

  // To a scale, "fit", "in" or "out"; what is at (left, top) of the pane, in CSS pixels from its middle, stays there.
  zoomTo(wanted, left = 0, top = 0) {
    const now = this.scale(), pixels = window.devicePixelRatio || 1;
    const next = { in: SCALES.find(each => each > now * 1.01), out: SCALES.findLast(each => each < now / 1.01), fit: "fit" };
    const zoom = wanted in next ? next[wanted] : clamp(Number(wanted), SCALES[0], SCALES.at(-1));
    if (zoom === undefined) return;
    this.zoom = zoom;
    this.x += left * pixels * (1 / now - 1 / this.scale());
    this.y += top * pixels * (1 / now - 1 / this.scale());
    this.draw();
    this.say(`Scale ${this.find(".scale").textContent}`);
  }

  // Moves what is shown, in CSS pixels.
  pan(right, down) {
    const css = this.scale() / (window.devicePixelRatio || 1);
    this.x += right / css;
    this.y += down / css;
    this.draw();
  }

  // Where the frame lies in a pane, in CSS pixels; keeps the middle where the picture is.
  place() {
    const { width, height } = this.scene, pane = this.pane(), pixels = window.devicePixelRatio || 1;
    const scale = this.scale(), css = scale / pixels;
    const half = { width: Math.min(pane.width / css, width) / 2, height: Math.min(pane.height / css, height) / 2 };
    this.x = clamp(this.x, half.width, width - half.width);
    this.y = clamp(this.y, half.height, height - half.height);
    const snap = value => Math.round(value * pixels) / pixels;
    const left = snap(pane.width / 2 - this.x * css), top = snap(pane.height / 2 - this.y * css);
    return { scale, left, top, width: width * css, height: height * css,
      pans: width * css > pane.width + 1 || height * css > pane.height + 1 };
  }

  // The CSS pixels from the left at which the slider is: it moves over what can be seen of the picture.
  boundary(place) {
    const first = Math.max(0, place.left), last = Math.min(this.stage.clientWidth, place.left + place.width);
    return { first, last, at: first + (last - first) * this.slider.value / 100 };
  }

  draw() {
    const place = this.place(), pane = this.pane(), boundary = this.boundary(place);
    const slides = this.isPair && this.mode === "slider", differs = this.isPair && this.mode === "difference" && !this.held;
    for (const frame of this.querySelectorAll(".frame")) {
      frame.style.width = `${place.width}px`;
      frame.style.height = `${place.height}px`;
      frame.style.transform = `translate(${place.left}px, ${place.top}px)`;
    }
    const [left, right, held] = ["left", "right", "held"].map(name => this.find(`.layer.${name}`));
    left.style.inset = `0 ${pane.right}px ${pane.down}px 0`;
    right.style.inset = held.style.inset = `${pane.down}px 0 0 ${pane.right}px`;
    right.style.clipPath = slides ? `inset(0 0 0 ${boundary.at}px)` : "none";
    right.hidden = this.held || !this.isPair;
    held.hidden = !this.held; // in the place of the right one side by side, else over both
    const layers = this.find(".layers");
    layers.classList.toggle("differs", differs);
    layers.classList.toggle("beside", pane.right + pane.down > 0);
    layers.classList.toggle("large", place.scale > 1);
    layers.style.filter = differs ? `brightness(${this.find("[data-at=gain]").value})` : "none";
    const handle = this.find(".handle");
    handle.hidden = !slides || this.held;
    handle.style.left = `${boundary.at}px`;
    handle.style.top = `${Math.max(0, place.top)}px`;
    handle.style.bottom = `${Math.max(0, pane.height - place.top - place.height)}px`;
    this.stage.classList.toggle("pans", place.pans);
    this.tag(place, pane, differs);
    this.tell(place, slides);
  }

  // Names the pictures in their corners.
  tag(place, pane, differs) {
    const [left, right] = ["left", "right"].map(name => this.find(`.tag.${name}`));
    const text = picture => picture.detail ? `${picture.name}: ${picture.detail}` : picture.name;
    const gain = this.find("[data-at=gain]").value;
    const scaled = place.scale < 1 ? " of the scaled pictures" : "";
    const one = differs ? `difference${scaled}, ${gain}×: ${this.picture("left").name} and ${this.picture("right").name}`
      : this.held && this.mode !== "side" ? text(this.scene.pictures[0]) : null;
    left.textContent = one ?? text(this.picture("left"));
    left.classList.toggle("wide", one !== null || !this.isPair || pane.down > 0);
    right.hidden = one !== null || !this.isPair;
    right.textContent = right.hidden ? "" : text(this.held ? this.scene.pictures[0] : this.picture("right"));
    right.classList.toggle("wide", pane.down > 0);
    right.style.top = pane.down ? `calc(${pane.down}px + .5rem)` : "";
  }

  // Shows the state in the controls.
  tell(place, slides) {
    const percent = 100 * place.scale;
    this.find(".scale").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
    for (const button of this.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", button.dataset.mode === this.mode);
    for (const button of this.querySelectorAll("[data-zoom]:not([aria-label])")) {
      button.setAttribute("aria-pressed", button.dataset.zoom === String(this.zoom));
    }
    this.find(".hold").setAttribute("aria-pressed", this.held);
    const [left, right] = [this.picture("left"), this.picture("right")];
    if (right) {
      const sides = `${left.name} to the left, ${right.name} to the right`;
      this.slider.setAttribute("aria-valuetext", `${this.slider.value} %: ${sides}`);
    }
    const shown = { scenes: this.scenes.length > 1, pictures: this.scene.pictures.length > 2, pair: this.isPair,
      difference: this.isPair && this.mode === "difference", slider: slides };
    for (const element of this.querySelectorAll("[data-of]")) {
      const hidden = !shown[element.dataset.of];
      if (hidden && element.contains(document.activeElement)) this.stage.focus(); // so that keys go on working
      element.hidden = hidden;
    }
  }

  press(event) {
    const onSlider = event.target === this.slider;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, dialog")) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      if (onSlider || !this.step(step, event.shiftKey)) return;
    } else if (event.key === "d") this.compare(this.mode === "difference" ? "slider" : "difference");
    else if (event.key === "s") this.compare(this.mode === "side" ? "slider" : "side");
    else if (event.key === "o") this.hold(true);
    else if (event.key === "?") this.find("dialog").showModal();
    else if (["1", "2", "4"].includes(event.key)) this.zoomTo(event.key);
    else if ({ "+": 1, "=": 1, "-": 1, 0: 1 }[event.key]) this.zoomTo({ "-": "out", 0: "fit" }[event.key] ?? "in");
    else return;
    event.preventDefault();
  }

  // Moves the slider or the picture by an arrow key; says whether there was anything to move.
  step([right, down], shift) {
    const slides = this.isPair && this.mode === "slider" && right && !shift;
    if (slides) {
      this.slider.value = Number(this.slider.value) + right;
      this.draw();
      this.say(`${this.slider.value} %`);
    } else if (this.place().pans) this.pan(64 * right, 64 * down);
    else return false;
    return true;
  }

  drag(event) {
    if (event.button !== 0) return;
    const place = this.place(), bounds = this.boundary(place), edge = this.stage.getBoundingClientRect().left;
    const slides = this.isPair && this.mode === "slider" && !this.held;
    const near = Math.abs(event.clientX - edge - bounds.at) <= GRAB;
    const slide = ({ clientX }) => {
      this.slider.value = 100 * (clientX - edge - bounds.first) / (bounds.last - bounds.first);
      this.draw();
    };
    let last = event;
    const pan = next => {
      this.pan(last.clientX - next.clientX, last.clientY - next.clientY);
      last = next;
    };
    const move = slides && (near || !place.pans) ? slide : pan;
    if (move === slide) slide(event);
    this.stage.setPointerCapture(event.pointerId);
    this.stage.classList.add("drags");
    const end = () => {
      this.stage.classList.remove("drags");
      this.stage.removeEventListener("pointermove", move);
    };
    this.stage.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) this.stage.addEventListener(kind, end, { once: true });
  }

  // Until the viewer has the focus, the wheel scrolls the page.
  wheel(event) {
    if (!event.ctrlKey && !this.contains(document.activeElement)) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect(), pane = this.pane();
    const left = (event.clientX - box.left) % pane.width, top = (event.clientY - box.top) % pane.height;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
    this.zoomTo(this.scale() * 2 ** (-event.deltaY * lines / 200), left - pane.width / 2, top - pane.height / 2);
  }
}

function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name, index) => new Option(name, index, index === chosen, index === chosen)));
}

function keyRow(entry) {
  const row = document.createElement("tr"), [keys, what] = [row.insertCell(), row.insertCell()];
  for (const key of entry.slice(0, -1)) {
    const element = document.createElement("kbd");
    element.textContent = key;
    keys.append(element, " ");
  }
  what.textContent = entry.at(-1);
  return row;
}

customElements.define("picture-viewer", PictureViewer);
