// One picture: fetched when there is a newer one, one request at a time, so that a slow browser
// or network skips pictures and never falls behind.

const LAG_MS = 2000;

export class Picture {
  constructor(name, figure) {
    this.name = name;
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.note = figure.querySelector(".note");
    this.markElement = figure.querySelector(".mark");
    this.forget();
  }

  // The process behind may be another one: its versions begin again.
  forget() {
    this.shown = 0;
    this.behindSince = null;
    this.isFetching = false;
    this.problem = "";
    this.generation = (this.generation ?? 0) + 1;
  }

  get isMarked() {
    return this.figure.classList.contains("marked");
  }

  mark(word, isGrey = true) {
    this.figure.classList.toggle("marked", word !== "");
    this.figure.classList.toggle("grey", word !== "" && isGrey);
    if (this.markElement.textContent === word) return;
    const span = document.createElement("span");
    span.textContent = word;
    this.markElement.replaceChildren(span);
  }

  update(info) {
    if (!info) {
      this.note.textContent = "none yet";
      if (this.shown) this.clear();
      this.mark("");
      return;
    }
    this.note.textContent = this.problem || `${info.age} ago`;
    if (this.shown === info.version) this.behindSince = null;
    else this.behindSince ??= performance.now();
    const isBehind = this.behindSince !== null && performance.now() - this.behindSince > LAG_MS;
    if (this.shown === 0) this.mark("");
    else if (isBehind) this.mark(info.mark || "OLD PICTURE");
    else this.mark(info.mark, info.grey || this.shown !== info.version);
    if (this.shown !== info.version && !this.isFetching) this.fetch(info.version);
  }

  lose(word) {
    this.note.textContent = "";
    this.mark(this.shown === 0 ? "" : word);
  }

  clear() {
    this.shown = 0;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  async fetch(version) {
    const generation = this.generation;
    this.isFetching = true;
    try {
      const answer = await fetch(`/picture/${this.name}.jpg?v=${version}`);
      if (generation !== this.generation) return;
      if (!answer.ok) {
        this.problem = answer.status === 415 ? await answer.text() : "";
        this.clear();
        return;
      }
      const bitmap = await createImageBitmap(await answer.blob());
      if (generation !== this.generation) return;
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
      this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
      this.problem = "";
      this.shown = Number(answer.headers.get("X-Version"));
      this.behindSince = null; // there may be a newer one already, but pictures are coming
      this.canvas.dispatchEvent(new Event("drawn"));
    } catch {
      // The connection is gone; the page says so, and comes back to it.
    } finally {
      if (generation === this.generation) this.isFetching = false;
    }
  }
}
