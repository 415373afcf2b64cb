// The page: takes the state from the view's process, and says in large words what it means.
// Nothing is decided here but one thing: a page that hears nothing shows nothing as valid.

import { Picture } from "./pictures.js";
import { Space } from "./space.js";

const LOST_AFTER_MS = 2500;
const RETRY_MS = [300, 1000, 2000, 3000];

const element = (id) => document.getElementById(id);
const pictures = ["overlay", "xray", "drr"].map((name) => new Picture(name, element(name)));
const space = new Space(element("space"));
let lastHeard = -Infinity;
let attempts = 0;

function show(kind, word, text, poseAge) {
  document.documentElement.dataset.kind = kind;
  element("word").textContent = word;
  element("word").classList.toggle("long", word.length > 13);
  element("text").textContent = text;
  const isValid = kind === "registered" || kind === "doubt";
  element("pose-age-of").textContent = isValid ? "pose age" : "last valid pose";
  element("pose-age").textContent = poseAge ? poseAge + (isValid ? "" : " ago") : "–";
  document.title = `${word} · xray_registration`;
}

function rows(list, pairs) {
  list.replaceChildren(...pairs.map(([label, value]) => {
    const row = document.createElement("div");
    row.append(document.createElement("dt"), document.createElement("dd"));
    row.firstChild.textContent = label;
    row.lastChild.textContent = value;
    return row;
  }));
}

function apply(state) {
  const { kind, word, text, pose_age: poseAge, trust } = state.standing;
  show(kind, word, text, poseAge);
  for (const picture of pictures) picture.update(state.pictures[picture.name]);
  document.querySelector("main").classList.toggle("without-drr", !state.pictures.drr);
  space.update(state, trust === "none" ? "NO VALID POSE" : trust === "doubt" ? word : "");
  space.setPicture(pictures[trust === "valid" && !pictures[0].isMarked ? 0 : 1].canvas);
  rows(element("figures"), state.figures.map((f) => [f.label, f.value]));
  const counts = Object.entries(state.counters).filter(([, value]) => value !== "");
  element("counters").textContent =
    "images: " + counts.map(([name, value]) => `${value} ${name.replace("_", " ")}`).join(", ");
  element("levels").textContent = state.level.text;
  element("levels").classList.toggle("bad", !state.level.good);
  if (element("values").parentElement.open) rows(element("values"), Object.entries(state.values));
  element("source").textContent = state.node;
}

function lose() {
  show("lost", "NO CONNECTION", "to the view's process; what is below is not of now", null);
  for (const picture of pictures) picture.lose("NO CONNECTION");
  space.lose("NO CONNECTION");
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  let isOver = false;
  const again = () => {
    if (isOver) return;
    isOver = true;
    clearInterval(watch);
    socket.onmessage = null;
    socket.close();
    setTimeout(connect, RETRY_MS[Math.min(attempts++, RETRY_MS.length - 1)]);
  };
  const opened = performance.now();
  // A socket that is open and silent is as good as none: begin again.
  const watch = setInterval(() => {
    if (performance.now() - Math.max(lastHeard, opened) > 2 * LOST_AFTER_MS) again();
  }, 500);
  socket.onopen = () => {
    for (const picture of pictures) picture.forget();
    space.forget();
  };
  socket.onmessage = (event) => {
    attempts = 0;
    lastHeard = performance.now();
    apply(JSON.parse(event.data));
  };
  socket.onclose = again;
  socket.onerror = again;
}

setInterval(() => {
  if (performance.now() - lastHeard > LOST_AFTER_MS) lose();
}, 250);
connect();
