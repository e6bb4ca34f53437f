"use strict";
const at = (id) => document.getElementById(id);
const COLOURS = 6;
let last = null; // the text and the entities of the last answer

function headers() {
  // A header holds bytes: those of the token in UTF-8.
  const token = String.fromCharCode(...new TextEncoder().encode(at("token").value));
  return token ? { Authorization: "Bearer " + token } : {};
}

function say(sentence, wrong) {
  at("message").textContent = sentence;
  at("message").classList.toggle("wrong", Boolean(wrong));
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  if (response.status === 401) at("token-field").hidden = false;
  let body = {};
  try {
    body = await response.json();
  } catch { /* reported below */ }
  if (!response.ok) throw new Error(body.error || "The server answered with status " + response.status + ".");
  return body;
}

async function annotate() {
  const text = at("text").value;
  at("go").disabled = true;
  say("Annotating ...");
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json", ...headers() } };
    const body = await ask("v1/annotate", { ...options, body: JSON.stringify({ text }) });
    last = { text, entities: body.entities };
    show();
  } catch (error) {
    say(error.message, true);
  } finally {
    at("go").disabled = false;
  }
}

function kept() {
  return last.entities.filter((entity) => entity.score >= Number(at("score").value));
}

// The text from start to end with its entities marked; they are sorted by start, each before those within it.
function pieces(characters, entities, start, end, colour) {
  const found = [];
  const left = [...entities];
  while (left.length) {
    const entity = left.shift();
    const within = [];
    while (left.length && left[0].start < entity.end) within.push(left.shift());
    // One that goes on after the end of this one is marked in two parts.
    const longer = within.filter((other) => other.end > entity.end);
    const parts = within.map((other) => longer.includes(other) ? { ...other, end: entity.end, open: true } : other);
    left.unshift(...longer.map((other) => ({ ...other, start: entity.end })));
    left.sort((one, other) => one.start - other.start || other.end - one.end);
    const mark = document.createElement("mark");
    mark.className = colour(entity.type);
    mark.title = (entity.type || "entity") + ", score " + entity.score.toFixed(2);
    mark.append(...pieces(characters, parts, entity.start, entity.end, colour));
    if (!entity.open) {
      const label = document.createElement("small");
      label.textContent = [entity.type, entity.score.toFixed(2)].filter(Boolean).join(" ");
      mark.append(label);
    }
    found.push(characters.slice(start, entity.start).join(""), mark);
    start = entity.end;
  }
  return [...found, characters.slice(start, end).join("")];
}

function show() {
  // Offsets count characters, while strings here count UTF-16 units.
  const characters = Array.from(last.text);
  const entities = kept();
  const types = [...new Set(last.entities.map((entity) => entity.type))].sort();
  const colour = (type) => "c" + (types.indexOf(type) % COLOURS);
  at("shown").replaceChildren(...pieces(characters, entities, 0, characters.length, colour));
  at("legend").replaceChildren(...types.filter(Boolean).map((type) => {
    const item = document.createElement("li");
    const mark = document.createElement("mark");
    mark.className = colour(type);
    mark.textContent = type;
    item.append(mark);
    return item;
  }));
  const rows = document.createDocumentFragment();
  for (const entity of entities) {
    const row = document.createElement("tr");
    for (const value of [entity.text, entity.type, entity.start, entity.end, entity.score.toFixed(2)]) {
      const cell = document.createElement("td");
      cell.textContent = value;
      row.append(cell);
    }
    rows.append(row);
  }
  at("rows").replaceChildren(rows);
  at("result").hidden = false;
  say(entities.length === 1 ? "1 entity." : entities.length + " entities.");
}

async function copy() {
  const json = JSON.stringify({ text: last.text, entities: kept() }, null, 2);
  try {
    await navigator.clipboard.writeText(json);
    say("Copied.");
  } catch {
    say("The browser does not allow to copy here.", true);
  }
}

async function models() {
  try {
    const body = await ask("v1/models", { headers: headers() });
    at("models").textContent = body.models
      .map((model) => model.name + (model.types.join("") ? " (" + model.types.join(", ") + ")" : "") + " on " + model.runtime)
      .join("; ");
    if (at("message").classList.contains("wrong")) say("");
  } catch (error) {
    say(error.message, true);
  }
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); annotate(); });
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); annotate(); }
});
at("score").addEventListener("input", () => { at("score-shown").value = at("score").value; if (last) show(); });
at("copy").addEventListener("click", copy);
at("token").addEventListener("change", models);
models();
