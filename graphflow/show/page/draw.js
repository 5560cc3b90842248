// From a placed picture to SVG elements in #world.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const KINDS = {
  input: "Input", variable: "Variable", constant: "Constant", op: "Operation",
  kernel: "Kernel", state: "State update", output: "Output", control: "Control",
};
const kindOf = (box) => (KINDS[box.kind] ? box.kind : "op");

function make(parent, name, attributes = {}, text) {
  const element = parent.namespaceURI === SVG || name === "svg" ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.appendChild(element);
  return element;
}

function chip(parent, kind) {
  const svg = make(parent, "svg", {class: `k-${kind}`, viewBox: "0 0 16 11", "aria-hidden": "true"});
  make(svg, "rect", {x: 0.6, y: 0.6, width: 14.8, height: 9.8, rx: 3, "stroke-width": 1.2});
}

// Draw everything anew; returns {nodes, scopes: elements by key, wires: elements by wire number, labels likewise}.
function draw(world, placed) {
  world.replaceChildren();
  const drawn = {nodes: new Map(), scopes: new Map(), wires: new Map()};
  const layer = () => make(world, "g");
  const [scopes, wires, nodes, labels] = [layer(), layer(), layer(), layer()];
  for (const scope of placed.scopes) drawn.scopes.set(scope.key, drawScope(scopes, scope));
  const remember = (numbers, elements) => {
    for (const number of numbers) drawn.wires.set(number, [...(drawn.wires.get(number) || []), ...elements]);
  };
  for (const trace of placed.traces) remember(trace.wires, drawTrace(wires, trace, placed));
  placed.nodes.forEach((node, k) => drawn.nodes.set(node.key, drawNode(nodes, node, k)));
  for (const label of placed.labels) {
    remember(label.wires, [make(labels, "text", {class: "type", x: label.x, y: label.y}, label.text)]);
  }
  drawn.layers = {wires, labels};
  return drawn;
}

function drawScope(layer, scope) {
  const name = scope.path[scope.path.length - 1];
  const group = make(layer, "g", {class: "scope", "data-scope": scope.key});
  const {x, y, width, height} = scope;
  make(group, "rect", {x, y, width, height, rx: Math.max(6, 14 - 2 * scope.path.length)});
  const grip = make(group, "g", {class: "grip", tabindex: 0, role: "button", "aria-label": `Close scope ${scope.path.join("/")}`});
  make(grip, "rect", {x: x + 6, y: y + 6, width: Math.min(width - 12, widthOf(name, "title") + 30), height: 21});
  make(grip, "path", {class: "sign", d: `M${x + 13} ${y + 14.5}l3.5 3.8 3.5 -3.8`});
  make(grip, "text", {x: x + 27, y: y + 20.5}, name);
  return group;
}

function drawTrace(layer, trace, placed) {
  const {x0, y0, y1, x1, y2, y3} = trace, bend = (y1 + y2) / 2;
  const d = `M${x0} ${y0}V${y1}C${x0} ${bend} ${x1} ${bend} ${x1} ${y2}V${y3}`;
  const elements = [make(layer, "path", {class: trace.control ? "wire ctl" : "wire", d})];
  if (trace.head) {
    const tip = trace.up ? `M${x0} ${y0}l-3.5 6.5h7z` : `M${x1} ${y3}l-3.5 -6.5h7z`;
    elements.push(make(layer, "path", {class: "head", d: tip}));
  }
  const reach = make(layer, "path", {class: "reach", d, "data-wires": [...trace.wires].join(" ")});
  make(reach, "title", {}, [...trace.wires].slice(0, 12).map((number) => wireText(placed, number)).join("\n"));
  return elements;
}

function wireText(placed, number) {
  const wire = placed.wires[number], name = (k) => placed.nodes[k].box?.id ?? `${placed.nodes[k].scope.path.join("/")}/`;
  const what = wire.control ? "runs before" : [...wire.labels].slice(0, 4).join(", ");
  return `${name(wire.source)} → ${name(wire.target)}   ${what}`;
}

function drawNode(layer, node, k) {
  const kind = node.box ? `k-${kindOf(node.box)}` : "hull";
  const about = node.box ? `${node.box.op} ${node.box.id}` : `Closed scope ${node.scope.path.join("/")}, ${node.boxes.length} ops`;
  const group = make(layer, "g", {class: `node ${kind}`, tabindex: 0, role: "button", "aria-label": about, "data-node": k});
  const {x, y, width, height} = node, middle = x + width / 2;
  const round = node.box && ["input", "constant"].includes(kindOf(node.box));
  const rx = Math.min(height / 2, node.scope ? 8 : round ? 15 : 6);
  if (node.scope) make(group, "rect", {class: "behind", x: x + 4, y: y + 4, width, height, rx});
  make(group, "rect", {x, y, width, height, rx});
  let base = y + 8, above = "";
  for (const [text, font] of node.lines) {
    base += LINE[font] + (font === "mono" && above !== "mono" ? MEMBERS_GAP : 0);
    above = font;
    const left = font === "mono" ? x + 13 : middle + (node.scope ? 8 : 0);
    make(group, "text", {class: font, x: left, y: base - 4}, text);
  }
  if (node.scope) drawContents(group, node);
  return group;
}

function drawContents(group, node) { // the sign to open, and what kinds of nodes are inside
  const {x, y, width, height} = node;
  make(group, "path", {class: "sign", d: `M${x + 11} ${y + 21}h8M${x + 15} ${y + 17}v8`});
  const mix = make(group, "g", {class: "mix"}), all = node.kinds;
  const total = all.reduce((sum, [, count]) => sum + count, 0);
  let left = x + 13;
  for (const [kind, count] of all) {
    const long = ((width - 26 - 2 * (all.length - 1)) * count) / total;
    make(make(mix, "g", {class: `k-${kind}`}), "rect", {x: left, y: y + height - 11, width: Math.max(long, 0.5), height: 4, rx: 2});
    left += long + 2;
  }
}
