// The page of `videolm serve`: a form for every task of the model, and what was made. No build step, nothing from elsewhere.

const $ = (id) => document.getElementById(id);
const NOUNS = { text: "a prompt", image: "an image", last_image: "a last image", audio: "sound", structure: "flow and depth" };
const INPUTS = {
  image: ["image_reference", "First frame", "image/*"],
  last_image: ["last_image_reference", "Last frame", "image/*"],
  video: ["video_reference", "Video", "video/*,image/gif,image/webp"],
  audio: ["audio_reference", "Sound", "audio/*,video/*"],
  structure: ["structure_reference", "Flow and depth, as a video", "video/*"],
};
const state = { model: null, files: {}, cards: new Map(), last: null, brush: null, painted: false };

// ---- asking the server

function headers() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (response.ok) return response;
  let told = `${response.status} ${response.statusText}`;
  try { told = (await response.json()).error.message; } catch { /* no JSON: the status says it */ }
  if (response.status === 401) $("key-row").hidden = false;
  throw Object.assign(new Error(told), { status: response.status });
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (path, body) => json(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

async function* events(path, signal) {
  const response = await ask(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

// ---- the form

function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

function task() { return state.model.tasks.find((each) => each.name === $("task").value); }

function describe(model) {
  state.model = model;
  $("model").textContent = `${model.id}: ${model.frames.join(", ")} frames, ${model.fps} a second`;
  $("task").replaceChildren(...model.tasks.map((each) => new Option(words(each.name), each.name)));
  $("size").replaceChildren(new Option(`${model.sizes[0]} (the model's)`, ""), ...model.sizes.slice(1).map((each) => new Option(each, each)));
  $("seconds").max = model.max_seconds;
  choose();
}

function choose() {
  const { takes, makes, sound } = task();
  $("prompt-row").hidden = !("text" in takes);
  $("prompt").required = takes.text === true;
  const kind = makes === "video" && sound ? "video with sound" : makes;
  const named = (needed) => Object.keys(takes).filter((name) => takes[name] === needed).map((name) => NOUNS[name] ?? `a ${name}`).join(" and ");
  const [needs, may] = [named(true), named(false)];
  $("task-help").textContent = `Takes ${needs || (may ? "" : "nothing")}${may ? `${needs ? ", and " : ""}${may} if you like` : ""}; makes ${NOUNS[kind] ?? `a ${kind}`}.`;
  const wanted = Object.keys(takes).filter((name) => name in INPUTS);
  for (const name of Object.keys(state.files)) if (!wanted.includes(name)) delete state.files[name];
  $("inputs").replaceChildren(...wanted.map((name) => drop(name, takes[name])));
  $("mask-row").hidden = !("mask" in takes);
  clearMask();
}

function drop(name, needed) {
  const [field, label, accept] = INPUTS[name];
  const box = document.createElement("div");
  box.className = "drop";
  const input = Object.assign(document.createElement("input"), { type: "file", id: field, accept, required: needed });
  const title = Object.assign(document.createElement("label"), { htmlFor: field, textContent: needed ? label : `${label} (if you like)` });
  const shown = document.createElement("div");
  const take = (file) => { if (file) { state.files[name] = file; preview(name, file, shown); } };
  input.addEventListener("change", () => take(input.files[0]));
  for (const [event, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    box.addEventListener(event, (moved) => { moved.preventDefault(); box.classList.toggle("over", over); });
  }
  box.addEventListener("drop", (moved) => take(moved.dataTransfer.files[0]));
  box.append(title, input, shown);
  if (state.files[name]) preview(name, state.files[name], shown);
  return box;
}

function preview(name, file, place) {
  const kind = file.type.split("/")[0];
  const element = document.createElement(kind === "image" ? "img" : kind === "audio" ? "audio" : "video");
  element.src = URL.createObjectURL(file);
  if (kind === "image") element.alt = `The ${name.replace("_", " ")} given`;
  else Object.assign(element, { controls: true, muted: true });
  place.replaceChildren(element, Object.assign(document.createElement("small"), { textContent: file.name ?? "from a video made here" }));
  if (name === "video") follow(element, kind);
}

// ---- the mask

const canvas = $("mask"), pen = canvas.getContext("2d");
const mask = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
const painted = mask.getContext("2d");
let under = null;

// The mask is painted over the frame that the video shows.
function follow(element, kind) {
  const draw = () => element.isConnected && backdrop(element);
  if (kind === "image") element.addEventListener("load", draw);
  else if (element.requestVideoFrameCallback) {
    const next = () => { draw(); if (element.isConnected) element.requestVideoFrameCallback(next); };
    element.requestVideoFrameCallback(next);
  } else for (const event of ["loadeddata", "seeked", "timeupdate"]) element.addEventListener(event, draw);
}

function backdrop(element) {
  const width = element.videoWidth || element.naturalWidth, height = element.videoHeight || element.naturalHeight;
  const side = Math.min(width, height);
  under = document.createElement("canvas");
  under.width = under.height = 256;
  under.getContext("2d").drawImage(element, (width - side) / 2, (height - side) / 2, side, side, 0, 0, 256, 256);
  redraw();
}

function clearMask() {
  painted.clearRect(0, 0, 256, 256);
  state.painted = false;
  state.brush = { x: 128, y: 128 };
  redraw();
}

function redraw(cursor = false) {
  pen.clearRect(0, 0, 256, 256);
  if (under) pen.drawImage(under, 0, 0);
  pen.globalAlpha = 0.6;
  pen.drawImage(mask, 0, 0);
  pen.globalAlpha = 1;
  if (cursor) { pen.strokeStyle = "#f33"; pen.strokeRect(state.brush.x - 20, state.brush.y - 20, 40, 40); }
}

function paint(x, y, rub = false) {
  painted.fillStyle = "#fff";
  painted.globalCompositeOperation = rub ? "destination-out" : "source-over";
  painted.fillRect(x - 20, y - 20, 40, 40);
  state.painted = true;
  $("box").value = "";
}

canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); stroke(event); });
canvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(event); });
function stroke(event) {
  const box = canvas.getBoundingClientRect();
  paint((event.clientX - box.left) / box.width * 256, (event.clientY - box.top) / box.height * 256, event.buttons === 2);
  redraw();
}
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-16, 0], ArrowRight: [16, 0], ArrowUp: [0, -16], ArrowDown: [0, 16] };
  if (event.key in moves) {
    state.brush.x = Math.max(0, Math.min(256, state.brush.x + moves[event.key][0]));
    state.brush.y = Math.max(0, Math.min(256, state.brush.y + moves[event.key][1]));
  } else if (event.key === " " || event.key === "Backspace") paint(state.brush.x, state.brush.y, event.key === "Backspace");
  else return;
  event.preventDefault();
  redraw(true);
});
canvas.addEventListener("blur", () => redraw());
$("mask-clear").addEventListener("click", clearMask);

async function maskFile() {
  const whole = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
  const to = whole.getContext("2d");
  to.fillRect(0, 0, 256, 256);
  to.drawImage(mask, 0, 0);
  return new Promise((done) => whole.toBlob(done, "image/png"));
}

// ---- making

$("task").addEventListener("change", choose);
$("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value.trim()); begin(); });
$("reset").addEventListener("click", () => { $("form").reset(); state.files = {}; under = null; choose(); say(""); });

function say(text) { $("said").textContent = text; }

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  const { name, takes } = task(), body = new FormData();
  if ($("prompt").required && !$("prompt").value.trim()) { say("Say what the clip shows."); return $("prompt").focus(); }
  for (const [input, needed] of Object.entries(takes)) {
    if (needed && input in INPUTS && !state.files[input]) { say(`${INPUTS[input][1]}: choose a file.`); return $(INPUTS[input][0]).focus(); }
  }
  body.set("task", name);
  if ("text" in takes && $("prompt").value.trim()) body.set("prompt", $("prompt").value.trim());
  for (const field of ["size", "seconds", "seed", "guidance_scale", "temperature", "negative_prompt"]) {
    if ($(field).value) body.set(field, $(field).value);
  }
  for (const [input, file] of Object.entries(state.files)) body.set(INPUTS[input][0], file);
  if (!$("mask-row").hidden && $("box").value) body.set("mask", $("box").value.replaceAll(" ", ""));
  else if (!$("mask-row").hidden && state.painted) body.set("mask_reference", await maskFile(), "mask.png");
  try {
    const video = await json("/v1/videos", { method: "POST", body });
    announce(`Queued: ${video.prompt ?? words(video.task)}`);
    show(video, true);
  } catch (error) { say(error.message); }
});

function announce(text) { $("status").textContent = text; }

// ---- what was made

function show(video, first = false) {
  let card = state.cards.get(video.id);
  if (!card) {
    card = $("card").content.firstElementChild.cloneNode(true);
    card.dataset.id = video.id;
    state.cards.set(video.id, card);
    $("videos")[first ? "prepend" : "append"](card);
    $("empty").hidden = true;
    card.querySelector(".next").addEventListener("submit", (event) => { event.preventDefault(); goOn(card); });
  }
  fill(card, video);
  if (!over(video)) watch(card, video);
}

const over = (video) => video.status === "completed" || video.status === "failed";

function fill(card, video) {
  card.video = video;
  card.querySelector(".what").textContent = video.prompt ?? words(video.task.split("+").at(-1));
  const parts = [video.task.split("+").map(words).join(", then "), video.size, `${Number(video.seconds).toFixed(1)} s`, `seed ${video.seed}`];
  card.querySelector(".facts").textContent = parts.filter(Boolean).join(" · ");
  const bar = card.querySelector("progress");
  bar.hidden = over(video);
  bar.value = video.progress;
  bar.setAttribute("aria-label", video.status === "queued" ? "Waiting" : `Being made, ${video.progress} %`);
  const wrong = card.querySelector(".wrong");
  wrong.hidden = video.status !== "failed";
  wrong.textContent = video.error ? video.error.message : "";
  card.querySelector(".actions").replaceChildren(...actions(card, video));
  if (video.status === "completed") screen(card, video);
  else if (video.frames_ready) frame(card, video.id, video.frames_ready - 1);
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

function actions(card, video) {
  const remove = button(over(video) ? "Remove" : "Cancel", async () => {
    try {
      await ask(`/v1/videos/${video.id}`, { method: "DELETE" });
      card.stop?.abort();
      const here = card.contains(document.activeElement);
      card.remove();
      state.cards.delete(video.id);
      $("empty").hidden = state.cards.size > 0;
      if (here) $("results").focus();
    } catch (error) { say(error.message); }
  });
  if (video.status !== "completed") return [remove];
  const save = button("Download", async () => {
    const blob = await (await ask(`/v1/videos/${video.id}/content`)).blob();
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${video.id}.${blob.type.split("/")[1]}` });
    link.click();
  });
  const found = [save];
  const next = card.querySelector(".next");
  if (video.kind === "video") {
    found.push(button("Go on", (event) => {
      next.hidden = !next.hidden;
      event.target.setAttribute("aria-expanded", String(!next.hidden));
      if (!next.hidden) { next.querySelector("textarea").value ||= video.prompt ?? ""; next.querySelector("textarea").focus(); }
    }));
  }
  found.push(button("Use in another task", () => useIn(video)));
  if (video.prompt) found.push(button("Another", () => again(video)));
  return [...found, remove];
}

async function screen(card, video) {
  const place = card.querySelector(".screen");
  if (place.dataset.done) return;
  place.dataset.done = "yes";
  try {
    const blob = await (await ask(`/v1/videos/${video.id}/content`)).blob();
    const kind = blob.type.split("/")[0];
    const element = document.createElement(kind === "image" ? "img" : kind === "audio" ? "audio" : "video");
    element.src = URL.createObjectURL(blob);
    const said = video.prompt ?? words(video.task);
    if (kind === "image") element.alt = said;
    else Object.assign(element, { controls: true, loop: true, ariaLabel: said });
    place.replaceChildren(element);
  } catch (error) { place.textContent = error.message; }
}

async function frame(card, id, number) {
  const place = card.querySelector(".screen");
  try {
    const blob = await (await ask(`/v1/videos/${id}/frames/${number}`)).blob();
    if (place.dataset.done) return;
    const image = place.querySelector("img") ?? Object.assign(document.createElement("img"), { alt: "What is there so far" });
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    place.replaceChildren(image);
  } catch { /* the next one will do */ }
}

async function watch(card, video) {
  if (card.stop) return;
  card.stop = new AbortController();
  try {
    for await (const now of events(`/v1/videos/${video.id}/events`, card.stop.signal)) {
      fill(card, now);
      if (over(now)) announce(now.status === "completed" ? `Done: ${now.prompt ?? words(now.task)}` : `Failed: ${now.error.message}`);
    }
  } catch (error) { if (error.name !== "AbortError") say(error.message); }
  card.stop = null;
  if (!over(card.video) && document.contains(card)) setTimeout(() => watch(card, card.video), 2000);
}

async function goOn(card) {
  const next = card.querySelector(".next"), [prompt, seconds] = [next.querySelector("textarea").value.trim(), next.querySelector("input").value];
  try {
    const body = { video: { id: card.video.id }, seconds };
    if (prompt) body.prompt = prompt;
    show(await post("/v1/videos/extensions", body), true);
    next.hidden = true;
    announce("Queued: it goes on");
  } catch (error) { say(error.message); }
}

async function again(video) {
  try { show(await post(`/v1/videos/${video.id}/remix`, { prompt: video.prompt, seed: Math.floor(Math.random() * 2 ** 31) }), true); }
  catch (error) { say(error.message); }
}

async function useIn(video) {
  const name = video.kind === "image" ? "image" : video.kind;
  const fits = state.model.tasks.find((each) => name in each.takes);
  if (!fits) return say(`No task of this model takes ${name === "image" ? "an image" : `a ${name}`}.`);
  const blob = await (await ask(`/v1/videos/${video.id}/content`)).blob();
  state.files = { [name]: blob };
  $("task").value = fits.name;
  choose();
  $("task").focus();
  $("task").scrollIntoView({ block: "center" });
}

async function history() {
  const page = await json(`/v1/videos?limit=20${state.last ? `&after=${state.last}` : ""}`);
  for (const video of page.data) if (!state.cards.has(video.id)) show(video);
  state.last = page.last_id;
  $("more").hidden = !page.has_more;
}
$("more").addEventListener("click", () => history().catch((error) => say(error.message)));

async function begin() {
  say("");
  try {
    describe((await json("/v1/models")).data[0]);
    await history();
  } catch (error) { say(error.message); }
}

begin();
