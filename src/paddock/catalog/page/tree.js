"use strict";
// Everything shown comes from the JSON in the page, and goes into the document as text, never as markup.
const data = JSON.parse(document.getElementById("facts").textContent);
const svg = document.querySelector("main svg");
const aside = document.querySelector("aside");
const search = document.querySelector("input");
const count = document.getElementById("count");
const parts = new Map(); // id -> its groups in the picture
const parents = new Map(), children = new Map();
let chosen = null;

svg.setAttribute("role", "group"); // no longer one image: its entries can be chosen
for (const id of Object.keys(data.entries)) { parts.set(id, []); parents.set(id, []); children.set(id, []); }
for (const edge of data.edges) { parents.get(edge.to).push(edge); children.get(edge.from).push(edge); }
for (const group of svg.querySelectorAll(".entry")) {
  const id = group.dataset.id;
  if (parts.get(id).push(group) > 1) continue;
  group.setAttribute("tabindex", "0");
  group.setAttribute("role", "button");
  group.setAttribute("aria-label", `${data.entries[id].name}, ${data.entries[id].kind}`);
}

function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function link(address, text, parent) {
  const element = make("a", text, parent);
  element.href = address;
  element.rel = "noopener noreferrer";
  element.target = "_blank";
}

function list(title, edges, end) {
  if (!edges.length) return;
  make("h3", title, aside);
  const items = make("ul", undefined, aside);
  for (const edge of edges) {
    const item = make("li", undefined, items);
    const button = make("button", data.entries[edge[end]].name, item);
    button.addEventListener("click", () => choose(edge[end], true));
    item.append(` (${edge.how[end]})`);
  }
}

function tell(id) {
  const entry = data.entries[id];
  aside.replaceChildren();
  make("h2", entry.name, aside);
  make("p", entry.about, aside);
  const facts = make("dl", undefined, aside);
  for (const [name, value] of entry.facts) { make("dt", name, facts); make("dd", value, facts); }
  if (entry.url) link(entry.url, entry.url, make("p", undefined, aside));
  list("Made of", parents.get(id), "from");
  list("Made into", children.get(id), "to");
  if (entry.notes.length) make("h3", "Notes", aside);
  for (const note of entry.notes) make("p", note, aside);
  make("h3", "Sources", aside);
  const sources = make("ul", undefined, aside);
  for (const source of entry.sources) {
    const item = make("li", undefined, sources);
    link(source.url, source.title, item);
    item.append(` (${source.told})`);
  }
}

function reach(start, edges, end) {
  const found = new Set([start]);
  for (const id of found) for (const edge of edges.get(id)) found.add(edge[end]);
  return found;
}

function choose(id, move) {
  chosen = id;
  tell(id);
  const up = reach(id, parents, "from"), down = reach(id, children, "to");
  svg.classList.add("chosen");
  for (const [name, groups] of parts) for (const group of groups) {
    group.classList.toggle("near", up.has(name) || down.has(name));
    group.classList.toggle("self", name === id);
  }
  for (const path of svg.querySelectorAll(".edge")) {
    const { from, to } = path.dataset;
    path.classList.toggle("near", (up.has(from) && up.has(to)) || (down.has(from) && down.has(to)));
  }
  count.textContent = `${up.size - 1} ancestors, ${down.size - 1} descendants`;
  const group = parts.get(id)[0];
  if (move && group) { group.focus({ preventScroll: true }); group.scrollIntoView({ block: "center", inline: "center" }); }
}

function clear() {
  chosen = null;
  svg.classList.remove("chosen");
  count.textContent = "";
}

function near(id, key) {
  const step = { ArrowLeft: [parents, "from"], ArrowRight: [children, "to"] }[key];
  if (step) return step[0].get(id).map((edge) => edge[step[1]]).find((name) => parts.get(name).length);
  const here = parts.get(id)[0].getBoundingClientRect();
  let best = null, least = Infinity;
  for (const [name, groups] of parts) {
    if (name === id || !groups.length) continue;
    const there = groups[0].getBoundingClientRect();
    const down = there.top - here.top, across = Math.abs(there.left - here.left);
    const far = Math.abs(down) + 3 * across;
    if (Math.abs(down) > 4 && (key === "ArrowDown") === down > 0 && far < least) { least = far; best = name; }
  }
  return best;
}

svg.addEventListener("click", (event) => {
  const group = event.target.closest(".entry");
  if (group) choose(group.dataset.id, false); else clear();
});
svg.addEventListener("pointerover", (event) => {
  const group = event.target.closest(".entry");
  if (group && chosen === null) tell(group.dataset.id);
});
svg.addEventListener("focusin", (event) => {
  const group = event.target.closest(".entry");
  if (group && chosen === null) tell(group.dataset.id);
});
svg.addEventListener("keydown", (event) => {
  const group = event.target.closest(".entry");
  if (!group || event.ctrlKey || event.metaKey || event.altKey) return;
  const id = group.dataset.id;
  if (event.key === "Enter" || event.key === " ") choose(id, false);
  else if (event.key.startsWith("Arrow")) { const other = near(id, event.key); if (other) choose(other, true); }
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
  else if (event.key === "/" && event.target !== search) { search.focus(); event.preventDefault(); }
});
search.addEventListener("input", () => {
  const words = search.value.trim().toLowerCase();
  const found = words ? Object.keys(data.entries).filter((id) => data.entries[id].search.includes(words)) : [];
  svg.classList.toggle("chosen", words !== "");
  chosen = null;
  for (const path of svg.querySelectorAll(".edge")) path.classList.remove("near");
  for (const [name, groups] of parts) for (const group of groups) {
    group.classList.toggle("near", found.includes(name));
    group.classList.remove("self");
  }
  count.textContent = words ? `${found.length} found` : "";
  const first = found.find((id) => parts.get(id).length);
  if (first) { tell(first); parts.get(first)[0].scrollIntoView({ block: "center", inline: "center" }); }
});
search.addEventListener("keydown", (event) => {
  const words = search.value.trim().toLowerCase();
  if (event.key !== "Enter" || !words) return;
  const found = Object.keys(data.entries).filter((id) => data.entries[id].search.includes(words) && parts.get(id).length);
  const best = found.find((id) => data.entries[id].name.toLowerCase() === words) || found[0];
  if (best) choose(best, true);
});
