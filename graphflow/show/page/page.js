// The page: which view, which scopes are open, what is selected; pan and zoom; search; the panel.
// The state is in the address: #view=2&open=all|none|["a"],["a","b"]&select=ID&text=1&q=words
"use strict";

const $ = (id) => document.getElementById(id);
const {drawing, orders, texts} = JSON.parse($("data").textContent);
const canvas = $("canvas"), world = $("world"), panel = $("panel"), search = $("search");
const SMALL = 32; // views with at most so many boxes open with all scopes open
const state = {view: 0, opened: null, selected: null, text: false, x: 0, y: 0, scale: 1, found: [], at: -1, fitted: true};
let view, tree, placed, drawn;

for (const one of drawing.views) {
  one.number = new Map(one.boxes.map((box, k) => [box.id, k]));
  one.into = one.boxes.map(() => []);
  one.outOf = one.boxes.map(() => []);
  for (const wire of one.wires) {
    one.into[one.number.get(wire.target)].push(wire);
    one.outOf[one.number.get(wire.source)].push(wire);
  }
}

/* what is drawn */

function showView(index) {
  state.view = index;
  view = drawing.views[index];
  tree = scopeTree(view);
  if (!state.opened) state.opened = defaultOpened();
  if (!view.number.has(state.selected) && !tree.has(state.selected)) state.selected = null;
  [...$("tabs").children].forEach((tab, k) => {
    tab.setAttribute("aria-selected", k === index);
    tab.tabIndex = k === index ? 0 : -1;
    if (k === index) tab.scrollIntoView({block: "nearest", inline: "nearest"});
  });
  $("note").textContent = view.note || `${view.boxes.length} nodes`;
  render(false);
  select(state.selected);
  fit();
  find(search.value);
  showText();
}

function defaultOpened() {
  const opened = new Set();
  if (view.boxes.length <= SMALL) tree.forEach((_, key) => opened.add(key));
  const size = (key) => tree.get(key).boxes.length + tree.get(key).scopes.length;
  let seen = size(scopeKey([])), queue = tree.get(scopeKey([])).scopes;
  while (queue.length === 1 && seen + size(queue[0]) <= 30) { // a lone scope around everything says little
    opened.add(queue[0]);
    seen += size(queue[0]);
    queue = tree.get(queue[0]).scopes;
  }
  return opened;
}

function render(animated = true) {
  const before = animated && new Map([...placed.nodes, ...placed.scopes].map((one) => [one.key, one]));
  const seen = visible(view, orders[state.view], tree, state.opened);
  for (const node of seen.nodes) if (node.scope) node.kinds = kindsIn(node.boxes);
  placed = place(seen);
  drawn = draw(world, placed);
  $("open").disabled = state.opened.size >= tree.size;
  markFar();
  if (before) animate(before);
}

function kindsIn(boxes) {
  const counts = new Map();
  for (const k of boxes) counts.set(kindOf(view.boxes[k]), (counts.get(kindOf(view.boxes[k])) || 0) + 1);
  return Object.keys(KINDS).filter((kind) => counts.has(kind)).map((kind) => [kind, counts.get(kind)]);
}

function animate(before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || placed.nodes.length > 400) return;
  const timing = {duration: 220, easing: "cubic-bezier(.2, .7, .2, 1)"};
  const fade = [{opacity: 0}, {opacity: 1}];
  const move = (one, element) => {
    const old = before.get(one.key);
    const from = old && `translate(${old.x - one.x}px, ${old.y - one.y}px)`;
    element.animate(old ? [{transform: from}, {transform: "none"}] : fade, timing);
  };
  placed.nodes.forEach((node) => move(node, drawn.nodes.get(node.key)));
  placed.scopes.forEach((scope) => drawn.scopes.get(scope.key).animate(fade, timing));
  for (const layer of Object.values(drawn.layers)) layer.animate(fade, {...timing, delay: 60, fill: "backwards"});
}

function drawLegend() {
  $("legend").replaceChildren();
  for (const [kind] of kindsIn([...view.boxes.keys()])) {
    const entry = make($("legend"), "span");
    chip(entry, kind);
    entry.append(KINDS[kind]);
  }
  $("legend").hidden = !view.boxes.length || state.text;
}

function showText(on = state.text) {
  state.text = on;
  $("text").hidden = !state.text;
  for (const id of ["zoom", "legend", "canvas"]) $(id).toggleAttribute("hidden", state.text);
  $("scopes").hidden = state.text || tree.size < 2;
  $("empty").hidden = state.text || view.boxes.length > 0;
  drawLegend();
  $("as-graph").setAttribute("aria-pressed", !state.text);
  $("as-text").setAttribute("aria-pressed", state.text);
  if (state.text) writeText();
  remember();
}

function writeText() {
  const text = view.text || texts[state.view], words = search.value.trim().toLowerCase(), pre = $("text");
  pre.replaceChildren();
  const low = text.toLowerCase();
  let from = 0;
  for (let at; words && low.length === text.length && (at = low.indexOf(words, from)) >= 0; from = at + words.length) {
    pre.append(text.slice(from, at));
    make(pre, "mark", {}, text.slice(at, at + words.length));
  }
  pre.append(text.slice(from));
}

/* scopes */

function toggle(key) {
  const was = anchorOf(key);
  if (state.opened.has(key)) state.opened.delete(key);
  else state.opened.add(key);
  render();
  const now = anchorOf(key);
  if (was && now) {
    state.x += (was.x - now.x) * state.scale;
    state.y += (was.y - now.y) * state.scale;
  }
  moveWorld();
  find(search.value);
  select(state.selected);
}

function anchorOf(key) {
  const one = placed.nodes.find((node) => node.key === `scope:${key}`) || placed.scopes.find((scope) => scope.key === key);
  return one && {x: one.x + one.width / 2, y: one.y};
}

function openAll(all) {
  state.opened = new Set(all ? tree.keys() : []);
  render();
  fit();
  find(search.value);
  select(state.selected);
}

function reveal(id) { // open the scopes around a box and bring it into sight
  const box = view.boxes[view.number.get(id)], path = box.scope || [];
  const missing = path.map((_, k) => scopeKey(path.slice(0, k + 1))).filter((key) => !state.opened.has(key));
  missing.forEach((key) => state.opened.add(key));
  if (missing.length) render();
  find(search.value, true);
  select(id);
  const node = placed.nodes.find((one) => one.box === box);
  if (state.scale < 0.6) state.scale = 0.9;
  centre(node.x + node.width / 2, node.y + node.height / 2);
}

/* pan and zoom */

function room() {
  const {clientWidth, clientHeight} = canvas;
  if (panel.hidden) return {width: clientWidth, height: clientHeight};
  return innerWidth <= 760 ? {width: clientWidth, height: panel.offsetTop} : {width: clientWidth - panel.offsetWidth, height: clientHeight};
}

function moveWorld() {
  state.fitted = false;
  world.setAttribute("transform", `translate(${state.x} ${state.y}) scale(${state.scale})`);
  $("scale").textContent = `${Math.round(state.scale * 100)}%`;
  markFar();
}

function markFar() {
  world.classList.toggle("far", state.scale < 0.42);
}

function fit(whole = false) {
  const {width, height} = room(), top = 52, bottom = 56;
  const scale = Math.min((width - 24) / placed.width, (height - top - bottom) / placed.height);
  state.scale = Math.max(0.02, Math.min(1.15, scale));
  state.x = (width - placed.width * state.scale) / 2;
  state.y = top + (height - top - bottom - placed.height * state.scale) / 2;
  if (!whole && state.scale < 0.45 && placed.height > 1.2 * placed.width) { // a long graph is read from its top
    state.scale = 0.8;
    const first = placed.nodes.reduce((a, b) => (b.y < a.y ? b : a)), wide = placed.width * 0.8 > width;
    state.x = width / 2 - state.scale * (wide ? first.x + first.width / 2 : placed.width / 2);
    state.y = top;
  }
  moveWorld();
  state.fitted = true;
}

function centre(x, y) {
  const {width, height} = room();
  state.x = width / 2 - x * state.scale;
  state.y = height / 2 - y * state.scale;
  moveWorld();
}

function zoom(factor, x = room().width / 2, y = room().height / 2) {
  const scale = Math.max(0.02, Math.min(4, state.scale * factor)), by = scale / state.scale;
  state.x = x - (x - state.x) * by;
  state.y = y - (y - state.y) * by;
  state.scale = scale;
  moveWorld();
}

/* selection and panel */

function select(id) {
  state.selected = id;
  for (const element of world.querySelectorAll(".selected")) element.classList.remove("selected");
  const k = id === null ? undefined : view.number.get(id);
  const scope = id !== null && k === undefined && tree.get(id);
  panel.hidden = k === undefined && !scope;
  document.body.classList.toggle("panel", !panel.hidden);
  if (scope) {
    (drawn.nodes.get(`scope:${id}`) || drawn.scopes.get(id))?.classList.add("selected");
    scopePanel(id, scope);
  } else if (k !== undefined) {
    drawn.nodes.get(`box:${id}`)?.classList.add("selected");
    boxPanel(view.boxes[k], k);
  }
  light();
  remember();
}

function light(hovered) { // colour the wires of the node under the pointer, else of the selected one
  for (const element of world.querySelectorAll(".lit")) element.classList.remove("lit");
  let node = hovered;
  if (node === undefined) {
    const key = state.selected;
    node = placed.nodes.findIndex((one) => one.key === `box:${key}` || one.key === `scope:${key}`);
  }
  placed.wires.forEach((wire, number) => {
    if (wire.source === node || wire.target === node) lightWire(number);
  });
}

function lightWire(number) {
  for (const element of drawn.wires.get(number) || []) element.classList.add("lit");
}

function panelHead(kind, words, title, path) {
  panel.replaceChildren();
  make(panel, "button", {class: "shut", "aria-label": "Close details", title: "Close (Esc)"}, "×").onclick = () => select(null);
  const line = make(panel, "p", {class: "kind"});
  if (kind) chip(line, kind);
  line.append(words);
  make(panel, "h2", {}, title);
  if (path && path !== title) make(panel, "p", {class: "path"}, path);
}

function section(title, text, count) {
  const heading = make(panel, "h3", {}, title);
  if (count > 1) make(heading, "small", {}, `  ${count}`);
  if (text) make(make(panel, "p"), "code", {}, text);
}

function boxPanel(box, k) {
  panelHead(kindOf(box), `${KINDS[kindOf(box)]}`, titleOf(box), box.id);
  if (box.op && box.op !== titleOf(box)) section("Op", box.op);
  if (box.type) section("Result", box.type);
  if (box.where) section("Declared at", box.where);
  if (box.detail) section(box.kind === "kernel" ? "Computes" : "Attributes", box.detail);
  if (box.members) {
    section(box.kind === "kernel" ? "Fused here" : "Together here", "", box.members.length);
    const list = make(panel, "ol");
    for (const member of box.members) make(list, "li", {}, member);
  }
  ends("Inputs", view.into[k].filter((wire) => !wire.control), "source");
  ends("Outputs", view.outOf[k].filter((wire) => !wire.control), "target");
  ends("Runs after", view.into[k].filter((wire) => wire.control), "source");
  ends("Runs before", view.outOf[k].filter((wire) => wire.control), "target");
}

function ends(title, wires, end) {
  if (!wires.length) return;
  section(title, "", wires.length);
  const list = make(panel, "ul");
  for (const wire of wires) {
    const button = make(make(list, "li"), "button");
    wire[end].split(/(?<=\/)/).forEach((part) => button.append(part, document.createElement("wbr")));
    const about = [view.boxes[view.number.get(wire[end])].op, wire.label].filter(Boolean).join(" · ");
    make(button, "small", {}, about);
    button.onclick = () => reveal(wire[end]);
  }
}

function scopePanel(key, scope) {
  const inside = new Set(scope.all), open = state.opened.has(key);
  panelHead("", "Name scope", scope.name, scope.path.join("/"));
  section("Contents", kindsIn(scope.all).map(([kind, count]) => `${count} ${KINDS[kind].toLowerCase()}${count > 1 ? "s" : ""}`).join(", "));
  make(panel, "button", {class: "action"}, open ? "Close scope" : "Open scope").onclick = () => toggle(key);
  const into = scope.all.flatMap((k) => view.into[k]).filter((wire) => !inside.has(view.number.get(wire.source)));
  const outOf = scope.all.flatMap((k) => view.outOf[k]).filter((wire) => !inside.has(view.number.get(wire.target)));
  const unique = (wires, end) => [...new Map(wires.map((wire) => [wire[end], wire])).values()];
  ends("Comes in", unique(into, "source"), "source");
  ends("Goes out to", unique(outOf, "target"), "target");
}

/* search */

function find(words, quiet = false) {
  words = words.trim().toLowerCase();
  const text = (box) => [box.id, box.op, box.label, box.detail, box.where, box.type, ...(box.members || [])].join("\n").toLowerCase();
  const hits = words ? orders[state.view].filter((k) => text(view.boxes[k]).includes(words)) : [];
  state.found = hits.map((k) => view.boxes[k].id);
  if (!quiet) state.at = -1;
  const set = new Set(hits);
  world.classList.toggle("searching", Boolean(words));
  placed.nodes.forEach((node) => drawn.nodes.get(node.key).classList.toggle("match", node.boxes.some((k) => set.has(k))));
  $("matches").textContent = !words ? "" : state.at >= 0 ? `${state.at + 1}/${hits.length}` : hits.length || "none";
  if (state.text) writeText();
  if (!quiet) remember();
}

function nextMatch(step) {
  if (!state.found.length) return;
  state.at = state.at < 0 && step < 0 ? state.found.length - 1 : (state.at + step + state.found.length) % state.found.length;
  reveal(state.found[state.at]);
}

/* the address */

function remember() {
  const open = state.opened.size >= tree.size - 1 && tree.size > 1 ? "all" : [...state.opened].filter((key) => key !== "[]").join(",") || "none";
  const parts = {view: state.view, open, select: state.selected || "", text: state.text ? 1 : "", q: search.value};
  const hash = Object.entries(parts).filter(([, value]) => value !== "").map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  history.replaceState(null, "", `#${hash.join("&")}`);
}

function recall() {
  const wanted = new Map(location.hash.slice(1).split("&").map((part) => {
    const cut = part.indexOf("=");
    return [part.slice(0, cut), decodeURIComponent(part.slice(cut + 1))];
  }));
  const count = drawing.views.length, number = Math.trunc(Number(wanted.get("view"))) || 0;
  view = drawing.views[Math.max(0, Math.min(count - 1, number))];
  tree = scopeTree(view);
  const open = wanted.get("open");
  if (open === "all") state.opened = new Set(tree.keys());
  else if (open !== undefined) state.opened = new Set(open === "none" ? [] : JSON.parse(`[${open}]`).map(scopeKey));
  state.text = wanted.get("text") === "1";
  search.value = wanted.get("q") || "";
  const selected = wanted.get("select"), box = view.boxes[view.number.get(selected)];
  if (box) { // so that nothing needs to move when it is shown
    state.opened ??= defaultOpened();
    (box.scope || []).forEach((_, k) => state.opened.add(scopeKey(box.scope.slice(0, k + 1))));
  }
  showView(drawing.views.indexOf(view));
  if (!selected) return;
  if (view.number.has(selected)) reveal(selected);
  else if (tree.has(selected)) select(selected);
  if (wanted.has("fit")) fit(true);
}

/* listening */

function activate(target) {
  const node = target.closest(".node"), grip = target.closest(".grip");
  if (node) {
    const one = placed.nodes[node.dataset.node];
    if (one.box) return select(one.box.id);
    const key = one.key.slice("scope:".length);
    state.selected = panel.hidden ? state.selected : key;
    return toggle(key);
  }
  if (grip) return toggle(grip.parentElement.dataset.scope);
  const scope = target.closest(".scope");
  return select(scope ? scope.dataset.scope : null);
}

function listenToPointer() {
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved < 4) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("dragging");
    if (pointers.size === 2) {
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = canvas.getBoundingClientRect();
      zoom(far(event) / Math.max(1, far(last)), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    } else {
      state.x += dx;
      state.y += dy;
      moveWorld();
    }
    pointers.set(event.pointerId, event);
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) canvas.classList.remove("dragging");
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("click", (event) => { if (moved < 4) activate(event.target); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect(), unit = event.deltaMode === 1 ? 16 : 1;
    zoom(Math.exp(-Math.max(-80, Math.min(80, event.deltaY * unit)) * (event.ctrlKey ? 0.01 : 0.0022)), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  canvas.addEventListener("pointerover", (event) => {
    const node = event.target.closest(".node"), reach = event.target.closest(".reach");
    light(node ? Number(node.dataset.node) : undefined);
    if (reach) reach.dataset.wires.split(" ").forEach((number) => lightWire(Number(number)));
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (event.target === search && search.value) search.value = "", find("");
    else if (event.target === search) search.blur();
    else select(null);
    return;
  }
  if (event.target === search) {
    if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1);
    return;
  }
  const pan = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]}[event.key];
  const keys = {
    "/": () => search.focus(), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => fit(true),
    o: () => openAll(true), c: () => openAll(false), t: () => showText(!state.text),
  };
  if (event.target.closest("#tabs") && pan && pan[0]) moveTab(-Math.sign(pan[0]));
  else if (event.target.closest("#canvas") && (event.key === "Enter" || event.key === " ") && event.target !== canvas) activate(event.target);
  else if (keys[event.key]) keys[event.key]();
  else if (pan && !state.text && !event.target.closest("#panel")) [state.x, state.y] = [state.x + pan[0], state.y + pan[1]], moveWorld();
  else return;
  event.preventDefault();
}

function moveTab(step) {
  const count = drawing.views.length, next = (state.view + step + count) % count;
  switchTo(next);
  $("tabs").children[next].focus();
}

function switchTo(index) {
  state.opened = null;
  showView(index);
}

function start() {
  drawing.views.forEach((one, k) => {
    const same = (one.note || "").includes("unchanged") ? "same" : "";
    const tab = make($("tabs"), "button", {role: "tab", class: same, title: one.note || ""}, one.title);
    tab.onclick = () => switchTo(k);
  });
  $("open").onclick = () => openAll(true);
  $("close").onclick = () => openAll(false);
  $("in").onclick = () => zoom(1.25);
  $("out").onclick = () => zoom(0.8);
  $("scale").onclick = () => zoom(1 / state.scale);
  $("fit").onclick = () => fit(true);
  $("as-graph").onclick = () => showText(false);
  $("as-text").onclick = () => showText(true);
  search.oninput = () => find(search.value);
  addEventListener("keydown", onKey);
  addEventListener("hashchange", recall);
  new ResizeObserver(() => { if (state.fitted) fit(); }).observe(canvas);
  listenToPointer();
  recall();
}

start();
