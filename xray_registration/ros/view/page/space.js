// The scene in 3D, in the axes of the C-arm's optical frame, metres: the source at the origin, the
// detector along +z with the picture on it, the patient where the pose puts it. The tube is drawn
// above. The patient is in it only while there is a pose that may be drawn.

import { Renderer } from "./gl.js";
import { lookAt, multiply, perspective, transform } from "./matrices.js";

const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const NOMINAL_SDD_M = 1.0;
const UP = [0, 0, -1];
const FIELD_DEGREES = 40;
const START = { azimuth: 28, elevation: 33, distance: 1.08 };
// Tenths of a millimetre cannot be seen beside a C-arm.
const MAGNIFIED = 100;
const SIGMAS = 2;
const DOUBTFUL = [1, 0.68, 0.2, 1];
const CONE = [0.45, 0.75, 1, 0.9];
const CLOUD = [1, 0.25, 0.75, 0.55];

export class Space {
  constructor(figure) {
    this.figure = figure;
    this.markElement = figure.querySelector(".mark");
    this.note = figure.querySelector(".note");
    this.screen = figure.querySelector(".screen");
    this.solid = document.getElementById("solid");
    this.labels = document.getElementById("labels");
    this.orbit = { ...START };
    this.state = null;
    this.drawables = [];
    [this.carm, this.carmKey] = [[], ""];
    this.forget();
    try {
      this.renderer = new Renderer(this.solid);
    } catch {
      this.renderer = null;
      this.note.textContent = "needs a browser with WebGL 2";
      return;
    }
    this.ball = this.renderer.shape("triangles", sphere());
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(this.screen);
  }

  forget() {
    this.version = -1;
    this.isFetching = false;
    this.generation = (this.generation ?? 0) + 1;
  }

  setPicture(canvas) {
    if (!this.renderer || this.picture === canvas) return;
    this.picture?.removeEventListener("drawn", this.onDrawn);
    this.picture = canvas;
    this.onDrawn = () => {
      this.renderer.setPicture(canvas);
      this.redraw();
    };
    canvas.addEventListener("drawn", this.onDrawn);
    if (canvas.width > 16) this.onDrawn();
  }

  lose(word) {
    this.state = null;
    this.mark(word);
    this.redraw();
  }

  mark(word) {
    this.figure.classList.toggle("marked", word !== "");
    if (this.markElement.textContent === word) return;
    const span = document.createElement("span");
    span.textContent = word;
    this.markElement.replaceChildren(span);
  }

  update(state, mark) {
    this.state = state;
    this.mark(mark);
    if (!this.renderer) return;
    if (state.scene_version !== this.version && !this.isFetching) this.fetch(state.scene_version);
    const cloud = state.pose?.ellipsoid;
    this.note.textContent = cloud
      ? `pink: ${SIGMAS}σ × ${MAGNIFIED} (σ ${cloud.std_mm.map((v) => v.toFixed(2)).join(" / ")} mm)`
      : "";
    this.redraw();
  }

  async fetch(version) {
    const generation = this.generation;
    this.isFetching = true;
    try {
      const answer = await fetch(`/scene.bin?v=${version}`);
      const block = await answer.arrayBuffer();
      if (!answer.ok || generation !== this.generation) return;
      for (const drawable of this.drawables) if (drawable.shape) this.renderer.free(drawable.shape);
      this.drawables = unpack(block).map((d) => ({
        ...d,
        shape: d.kind === "text" ? null : this.renderer.shape(d.kind, d.points),
      }));
      this.version = version;
      this.redraw();
    } catch {
      // The connection is gone; the page says so, and comes back to it.
    } finally {
      if (generation === this.generation) this.isFetching = false;
    }
  }

  // --- drawing ---

  redraw() {
    if (!this.renderer || this.isPlanned) return;
    this.isPlanned = true;
    requestAnimationFrame(() => {
      this.isPlanned = false;
      this.draw();
    });
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.screen.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.screen.clientHeight * ratio));
    const depth = this.depth();
    const target = [0, 0, 0.76 * depth];
    const { azimuth, elevation, distance } = this.orbit;
    const [a, e] = [azimuth, elevation].map((v) => (v * Math.PI) / 180);
    const far = distance * depth * Math.max(1, (0.95 * height) / width);
    const eye = [
      target[0] + far * Math.cos(e) * Math.cos(a),
      target[1] + far * Math.cos(e) * Math.sin(a),
      target[2] - far * Math.sin(e),
    ];
    const view = lookAt(eye, target, UP);
    const clip = perspective(FIELD_DEGREES, width / height, 0.05, 20);
    const pen = this.labels.getContext("2d");
    this.labels.width = width;
    this.labels.height = height;
    this.renderer.begin(width, height, clip);
    this.write = (text, point, colour, size) =>
      write(pen, multiply(clip, view), text, point, colour, size * ratio);
    if (!this.state) return;
    this.ownsCArm = this.isCArmOfPose();
    if (this.ownsCArm) this.drawCArm(view, depth);
    if (this.state.pose) this.drawPatient(view);
    this.drawMarkers(view, this.state.frames.camera, IDENTITY, null);
  }

  // The node's markers know the detector's distance; camera_info does not.
  depth() {
    let deepest = 0;
    for (const { frame, kind, points } of this.drawables) {
      if (kind === "text" || !this.state || frame !== this.state.frames.camera) continue;
      for (let i = 2; i < points.length; i += 3) deepest = Math.max(deepest, points[i]);
    }
    return deepest || NOMINAL_SDD_M;
  }

  // With several views the pose is in the frame of one of them, or of none.
  isCArmOfPose() {
    const { camera, frames } = this.state;
    const areSeveral = this.drawables.some(({ ns }) => ns.startsWith("carm/"));
    return !areSeveral || (camera !== null && camera.frame === frames.camera);
  }

  drawCArm(view, depth) {
    const camera = this.state.camera;
    this.write("X-ray source", [0, 0, -0.03], "#9fd0ff", 16);
    if (!camera) return;
    const key = JSON.stringify([camera, depth]);
    if (key !== this.carmKey) {
      for (const shape of this.carm) this.renderer.free(shape);
      this.carm = carmShapes(this.renderer, camera, depth);
      this.carmKey = key;
    }
    const [quad, edges, tube] = this.carm;
    const isTextured = this.renderer.hasTexture && this.picture.width > 16;
    this.renderer.draw(quad, view, [0.1, 0.12, 0.15, 1], { isTextured });
    this.renderer.draw(tube, view, [0.55, 0.62, 0.7, 1], { isShaded: true });
    this.renderer.draw(edges, view, CONE);
  }

  drawPatient(view) {
    const { pose, frames } = this.state;
    const inCamera = pose.camera_from_patient;
    const isDoubtful = this.state.standing.trust === "doubt";
    this.drawMarkers(view, frames.patient, inCamera, isDoubtful ? DOUBTFUL : null);
    if (!pose.ellipsoid) return;
    const { centre, axes, std_mm: std } = pose.ellipsoid;
    const at = transform(inCamera, centre);
    const size = std.map((v) => Math.max(2e-3, v * 1e-3 * SIGMAS * MAGNIFIED));
    const ball = IDENTITY.slice();
    for (let r = 0; r < 3; r++) {
      for (let c = 0; c < 3; c++) ball[4 * r + c] = axes[c][r] * size[c];
      ball[4 * r + 3] = at[r];
    }
    this.renderer.gl.disable(this.renderer.gl.DEPTH_TEST);
    this.renderer.draw(this.ball, multiply(view, ball), CLOUD, { isShaded: true });
    this.renderer.gl.enable(this.renderer.gl.DEPTH_TEST);
  }

  drawMarkers(view, frame, inCamera, colour) {
    const placed = multiply(view, inCamera);
    // The beam of this view has been drawn, with the picture.
    const beam = this.state.view ? `carm/${this.state.view}` : "carm";
    const own = this.drawables.filter((d) => d.frame === frame && !(this.ownsCArm && d.ns === beam));
    own.sort((a, b) => b.rgba[3] - a.rgba[3]);
    for (const { kind, shape, rgba, text, points } of own) {
      if (kind === "text") {
        this.write(text, transform(inCamera, points), "#e8ffe8", 16);
        continue;
      }
      const isSolid = kind === "triangles";
      this.renderer.draw(shape, placed, colour ?? rgba, { isShaded: isSolid });
    }
  }

  // --- the mouse ---

  listen() {
    const surface = this.labels;
    surface.addEventListener("pointerdown", (event) => surface.setPointerCapture(event.pointerId));
    surface.addEventListener("pointermove", (event) => {
      if (!surface.hasPointerCapture(event.pointerId)) return;
      this.orbit.azimuth += 0.35 * event.movementX;
      this.orbit.elevation = clamp(this.orbit.elevation + 0.35 * event.movementY, -85, 85);
      this.redraw();
    });
    surface.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.orbit.distance = clamp(this.orbit.distance * Math.exp(event.deltaY * 1e-3), 0.4, 6);
      this.redraw();
    }, { passive: false });
    surface.addEventListener("dblclick", () => {
      this.orbit = { ...START };
      this.redraw();
    });
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function write(pen, clipFromModel, text, point, colour, size) {
  const [x, y, , w] = transform(clipFromModel, point);
  if (w <= 0) return;
  pen.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  pen.textAlign = "center";
  pen.lineWidth = size / 4;
  pen.lineJoin = "round";
  pen.strokeStyle = "#000c";
  pen.fillStyle = colour;
  const { width, height } = pen.canvas;
  const at = [(0.5 + (0.5 * x) / w) * width, Math.max(1.3 * size, (0.5 - (0.5 * y) / w) * height)];
  pen.strokeText(text, ...at);
  pen.fillText(text, ...at);
}

function carmShapes(renderer, camera, depth) {
  const { width, height, fx, fy, cx, cy } = camera;
  const corner = (u, v, z) => [((u - cx) / fx) * z, ((v - cy) / fy) * z, z];
  const [a, b, c, d] = [[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5],
    [-0.5, height - 0.5]].map(([u, v]) => corner(u, v, depth));
  const quad = new Float32Array([a, b, c, a, c, d].flat());
  const texels = new Float32Array([0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]);
  const source = [0, 0, 0];
  const pairs = [source, a, source, b, source, c, source, d, a, b, b, c, c, d, d, a];
  const ball = sphere().map((v) => 0.025 * v);
  return [
    renderer.shape("triangles", quad, texels),
    renderer.shape("lines", new Float32Array(pairs.flat())),
    renderer.shape("triangles", ball),
  ];
}

function sphere(rows = 12, columns = 24) {
  const at = (i, j) => {
    const [tilt, turn] = [(Math.PI * i) / rows, (2 * Math.PI * j) / columns];
    return [Math.sin(tilt) * Math.cos(turn), Math.sin(tilt) * Math.sin(turn), Math.cos(tilt)];
  };
  const points = [];
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const [a, b, c, d] = [at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)];
      points.push(a, b, c, a, c, d);
    }
  }
  return new Float32Array(points.flat());
}

// See marker_scene.py.
function unpack(block) {
  const length = new DataView(block).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(block, 4, length)));
  return header.drawables.map((d) => ({
    ...d,
    points: new Float32Array(block, 4 + length + 12 * d.offset, 3 * d.count),
  }));
}
