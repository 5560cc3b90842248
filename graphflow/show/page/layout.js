// What is seen of a view when some scopes are open, and where it goes. The same algorithm as ../layout.py.
"use strict";

const PADDING = 22, HEADER = 32, MARGIN = 28, SHOWN_MEMBERS = 6, LONGEST = 38, MEMBERS_GAP = 6, MOST_EXITS = 4;
const FONTS = {
  title: '600 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  small: '11px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  mono: '10.5px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace',
};
const LINE = {title: 17, small: 15, mono: 14.5};
const pen = document.createElement("canvas").getContext("2d");
const widths = new Map();

function widthOf(text, font) {
  const key = `${font}:${text}`;
  if (!widths.has(key)) {
    pen.font = FONTS[font];
    widths.set(key, pen.measureText(text).width + 1);
  }
  return widths.get(key);
}

function clipped(text, longest = LONGEST) {
  const head = Math.floor((longest * 2) / 3), chars = [...text];
  return chars.length <= longest ? text : `${chars.slice(0, head).join("")}…${chars.slice(head + 1 - longest).join("")}`;
}

const scopeKey = (path) => JSON.stringify(path);
const titleOf = (box) => box.label || box.id.slice(box.id.lastIndexOf("/") + 1);

function subtitleOf(box) {
  const op = (box.op || "").toLowerCase() === titleOf(box).toLowerCase() ? "" : box.op;
  const places = (box.where || "").split(", "), more = places.length > 1 ? ` + ${places.length - 1}` : "";
  return [op, places[0] + more].filter(Boolean).join(" · ");
}

function boxLines(box) {
  const members = box.members || [], lines = [[clipped(titleOf(box)), "title"]];
  for (const text of [subtitleOf(box), box.detail]) if (text && text !== titleOf(box)) lines.push([clipped(text), "small"]);
  const shown = members.length <= SHOWN_MEMBERS ? members : members.slice(0, SHOWN_MEMBERS - 1);
  for (const member of shown) lines.push([clipped(member, 48), "mono"]);
  if (shown.length < members.length) lines.push([`+ ${members.length - shown.length} more`, "mono"]);
  return lines;
}

// The scopes of a view as a tree: by key, {path, name, parent, scopes, boxes, all (indices of all boxes inside)}.
function scopeTree(view) {
  const tree = new Map([[scopeKey([]), {path: [], name: "", scopes: [], boxes: [], all: []}]]);
  view.boxes.forEach((box, k) => {
    const path = box.scope || [];
    tree.get(scopeKey([])).all.push(k);
    for (let depth = 1; depth <= path.length; depth++) {
      const here = path.slice(0, depth), key = scopeKey(here), parent = scopeKey(path.slice(0, depth - 1));
      if (!tree.has(key)) {
        tree.set(key, {path: here, name: path[depth - 1], parent, scopes: [], boxes: [], all: []});
        tree.get(parent).scopes.push(key);
      }
      tree.get(key).all.push(k);
    }
    tree.get(scopeKey(path)).boxes.push(k);
  });
  return tree;
}

// Nodes and wires to draw: a box, or a closed scope that stands for all boxes in it.
function visible(view, order, tree, opened) {
  const nodes = [], nodeOf = new Array(view.boxes.length), closed = new Map();
  for (const k of order) {
    const box = view.boxes[k], path = box.scope || [];
    let depth = 1;
    while (depth <= path.length && opened.has(scopeKey(path.slice(0, depth)))) depth++;
    const key = scopeKey(path.slice(0, depth));
    if (depth > path.length || tree.get(key).all.length === 1) { // a closed scope around one box is that box
      const outer = path.slice(0, depth - 1);
      nodeOf[k] = nodes.push({key: `box:${box.id}`, box, boxes: [k], path: outer, lines: boxLines(box)}) - 1;
      continue;
    }
    if (!closed.has(key)) {
      const scope = tree.get(key), count = scope.all.length;
      const lines = [[clipped(scope.name), "title"], [`${count} ${count === 1 ? "op" : "ops"}`, "small"]];
      closed.set(key, nodes.push({key: `scope:${key}`, scope, boxes: scope.all, path: path.slice(0, depth - 1), lines}) - 1);
    }
    nodeOf[k] = closed.get(key);
  }
  return {nodes, nodeOf, wires: mergedWires(view, nodes, nodeOf)};
}

function mergedWires(view, nodes, nodeOf) {
  const merged = new Map(), kinds = view.boxes.map((_, k) => new Set(view.outOf[k].map((wire) => wire.label)));
  const apart = (node) => node.box && kinds[node.boxes[0]].size <= MOST_EXITS; // else they leave together, under one label
  view.wires.forEach((wire, number) => {
    const source = nodeOf[view.number.get(wire.source)], target = nodeOf[view.number.get(wire.target)];
    if (source === target) return;
    const key = [source, target, apart(nodes[source]) ? wire.label || "" : "", !!wire.control].join("\u0000");
    if (!merged.has(key)) merged.set(key, {source, target, control: !!wire.control, labels: new Set(), from: new Set(), wires: []});
    const one = merged.get(key);
    one.labels.add(wire.label || "");
    one.from.add(wire.source);
    one.wires.push(number);
  });
  const wires = [...merged.values()];
  for (const wire of wires) wire.label = apart(nodes[wire.source]) ? [...wire.labels][0] : "";
  return wires;
}

// Coordinates for everything: {nodes (with rect), scopes, traces, labels, width, height}.
function place(seen) {
  const {nodes, wires} = seen, exits = exitsOf(nodes, wires);
  nodes.forEach((node) => measure(node));
  for (const label of exits.values()) {
    const node = nodes[label.node];
    node.width = Math.max(node.width, 2 * Math.abs(label.at) + 24); // what leaves a node touches it
    node.room = Math.max(node.room, node.width, 2 * (Math.abs(label.at) + label.width / 2));
  }
  const frames = framesOf(nodes);
  connect(nodes, wires, frames);
  for (const frame of [...frames.values()].sort((a, b) => b.path.length - a.path.length)) arrangeFrame(frame, nodes, exits);
  return picture(nodes, wires, frames, exits);
}

function measure(node) {
  const widest = node.lines.reduce((most, [text, font]) => Math.max(most, widthOf(text, font)), 0);
  node.width = Math.max(widest + 26 + (node.scope ? 22 : 0), 64);
  node.height = node.lines.reduce((sum, [, font]) => sum + LINE[font], 0) + 16 + (node.scope ? 8 : 0);
  if (node.lines.some(([, font]) => font === "mono")) node.height += MEMBERS_GAP;
  node.room = node.width;
}

function exitsOf(nodes, wires) { // what leaves a node, by node, label and control: {node, at, width, text, wires}
  const exits = new Map();
  wires.forEach((wire, number) => {
    const key = exitKey(wire);
    if (!exits.has(key)) exits.set(key, {node: wire.source, labels: new Set(), from: new Set(), control: wire.control, wires: []});
    const exit = exits.get(key);
    wire.labels.forEach((label) => exit.labels.add(label));
    wire.from.forEach((id) => exit.from.add(id));
    exit.wires.push(number);
  });
  const perNode = new Map();
  for (const exit of exits.values()) {
    exit.text = exit.control ? "" : exit.labels.size === 1 ? [...exit.labels][0] : `${Math.max(exit.from.size, exit.labels.size)} tensors`;
    if (exit.from.size > 1 && exit.labels.size === 1 && exit.text) exit.text = `${exit.from.size} × ${exit.text}`;
    exit.width = widthOf(exit.text, "mono") + 10;
    if (!perNode.has(exit.node)) perNode.set(exit.node, []);
    perNode.get(exit.node).push(exit);
  }
  for (const list of perNode.values()) {
    let x = -list.reduce((sum, exit) => sum + exit.width, 0) / 2;
    for (const exit of list) {
      exit.at = x + exit.width / 2;
      x += exit.width;
    }
  }
  return exits;
}

const exitKey = (wire) => `${wire.source}|${wire.control ? 1 : 0}|${wire.label}`;

function makeFrame(path) {
  return {path, items: [], number: new Map(), links: new Map(), ports: new Map()};
}

function itemOf(frame, key, thing) {
  if (!frame.number.has(key)) frame.number.set(key, frame.items.push(thing) - 1);
  return frame.number.get(key);
}

function framesOf(nodes) {
  const frames = new Map([[scopeKey([]), makeFrame([])]]);
  nodes.forEach((node, k) => {
    for (let depth = 1; depth <= node.path.length; depth++) {
      const path = node.path.slice(0, depth), key = scopeKey(path);
      if (frames.has(key)) continue;
      const frame = makeFrame(path);
      frames.set(key, frame);
      itemOf(frames.get(scopeKey(path.slice(0, -1))), key, {frame});
    }
    itemOf(frames.get(scopeKey(node.path)), k, {node: k});
  });
  return frames;
}

function connect(nodes, wires, frames) {
  const child = (path, depth, k) => {
    const frame = frames.get(scopeKey(path.slice(0, depth)));
    return frame.number.get(path.length === depth ? k : scopeKey(path.slice(0, depth + 1)));
  };
  const between = new Map();
  const meetings = wires.map((wire) => {
    const a = nodes[wire.source].path, b = nodes[wire.target].path;
    let depth = 0;
    while (depth < a.length && depth < b.length && a[depth] === b[depth]) depth++;
    const frame = frames.get(scopeKey(a.slice(0, depth)));
    const ends = [child(a, depth, wire.source), child(b, depth, wire.target)];
    if (!between.has(frame)) between.set(frame, new Map());
    between.get(frame).set(ends.join(), ends);
    return {frame, depth, ends};
  });
  const ranks = new Map([...between].map(([frame, pairs]) => [frame, downwards(frame.items.length, [...pairs.values()])]));
  wires.forEach((wire, number) => {
    const {frame, depth, ends} = meetings[number], rank = ranks.get(frame);
    const up = rank[ends[0]] > rank[ends[1]];
    const bundle = `${exitKey(wire)}|${up ? 1 : 0}`;
    const link = (inside, start, end) => addLink(inside, start, end, bundle, up, wire, number);
    const cross = (path, k, leaving) => {
      for (let d = depth + 1; d <= path.length; d++) {
        const inner = frames.get(scopeKey(path.slice(0, d))), side = leaving === up ? "top" : "bottom";
        const port = itemOf(inner, `port:${bundle}`, {port: side, bundle}), inside = child(path, d, k);
        if (leaving) link(inner, inside, port);
        else link(inner, port, inside);
      }
    };
    link(frame, ...ends);
    cross(nodes[wire.source].path, wire.source, true);
    cross(nodes[wire.target].path, wire.target, false);
  });
}

function addLink(frame, start, end, bundle, up, wire, number) {
  const [upper, lower] = up ? [end, start] : [start, end], key = `${upper}|${lower}|${bundle}`;
  if (!frame.links.has(key)) frame.links.set(key, {upper, lower, bundle, up, wire, wires: []});
  frame.links.get(key).wires.push(number);
}

function downwards(count, pairs) {
  const targets = Array.from({length: count}, () => []), waiting = new Array(count).fill(0);
  for (const [source, target] of pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    targets[source].push(target);
    waiting[target]++;
  }
  const rank = new Array(count).fill(-1);
  const ready = [...waiting.keys()].filter((k) => !waiting[k]).reverse();
  let lowest = 0;
  for (let placed = 0; placed < count;) {
    while (!ready.length) {
      if (rank[lowest] < 0) ready.push(lowest);
      lowest++;
    }
    const k = ready.pop();
    if (rank[k] >= 0) continue;
    rank[k] = placed++;
    for (const target of targets[k]) if (!--waiting[target] && rank[target] < 0) ready.push(target);
  }
  return rank;
}

function arrangeFrame(frame, nodes, exits) {
  const items = frame.items.map((thing) => {
    if (thing.frame) return {width: thing.frame.width, height: thing.frame.height, port: ""};
    if (thing.port) return {width: 0, height: 0, port: thing.port};
    return {width: nodes[thing.node].room, height: nodes[thing.node].height, port: ""};
  });
  const meet = (thing, link) => {
    if (thing.frame) return thing.frame.ports.get(link.bundle);
    if (thing.port) return 0;
    return thing.node === link.wire.source && !link.up ? exits.get(exitKey(link.wire)).at : null;
  };
  const links = [...frame.links.values()].map((link) => ({
    upper: link.upper, lower: link.lower, bundle: link.bundle,
    upperAt: meet(frame.items[link.upper], link) || 0, lowerAt: meet(frame.items[link.lower], link),
  }));
  const done = (frame.arranged = arrange(items, links));
  const heading = frame.path.length ? widthOf(frame.path[frame.path.length - 1], "title") + 30 : 0;
  frame.width = Math.max(done.width, heading) + 2 * PADDING;
  frame.height = done.height + HEADER + PADDING;
  frame.indent = (frame.width - done.width) / 2;
  frame.items.forEach((thing, k) => {
    if (thing.port) frame.ports.set(thing.bundle, done.corners[k][0] + frame.indent - frame.width / 2);
  });
}

function picture(nodes, wires, frames, exits) {
  const scopes = [], traces = [], root = frames.get(scopeKey([]));
  root.x = MARGIN - PADDING;
  root.y = MARGIN - HEADER;
  for (const frame of [...frames.values()].sort((a, b) => a.path.length - b.path.length)) {
    const x0 = frame.x + frame.indent, y0 = frame.y + HEADER;
    if (frame.path.length) {
      const {x, y, width, height} = frame;
      scopes.push({key: scopeKey(frame.path), path: frame.path, x, y, width, height});
    }
    frame.items.forEach((thing, k) => {
      const [x, y] = frame.arranged.corners[k];
      if (thing.frame) Object.assign(thing.frame, {x: x0 + x, y: y0 + y});
      else if (!thing.port) {
        const node = nodes[thing.node];
        Object.assign(node, {x: x0 + x + (node.room - node.width) / 2, y: y0 + y});
      }
    });
    traces.push(...tracesOf(frame, x0, y0));
  }
  const labels = [...exits.values()].filter((exit) => exit.text).map((exit) => {
    const node = nodes[exit.node];
    return {x: node.x + node.width / 2 + exit.at, y: node.y + node.height + (node.box ? 13 : 18), text: exit.text, wires: exit.wires};
  });
  const width = root.width - 2 * PADDING + 2 * MARGIN, height = root.height - HEADER - PADDING + 2 * MARGIN;
  return {nodes, wires, scopes, traces, labels, width, height};
}

function tracesOf(frame, x0, y0) { // the hops of a frame, each once, with the wires that share it
  const traces = new Map();
  [...frame.links.values()].forEach((link, number) => {
    const way = frame.arranged.ways[number], end = frame.items[link.up ? link.upper : link.lower];
    way.forEach((hop, k) => {
      if (!traces.has(hop)) {
        const h = frame.arranged.hops[hop];
        traces.set(hop, {
          x0: h.x0 + x0, y0: h.y0 + y0, y1: h.y1 + y0, x1: h.x1 + x0, y2: h.y2 + y0, y3: h.y3 + y0,
          control: link.wire.control, up: link.up, head: false, wires: new Set(),
        });
        if (k === 0 && frame.items[link.upper].port) traces.get(hop).y0 -= HEADER;
        if (k === way.length - 1 && frame.items[link.lower].port) traces.get(hop).y3 += PADDING;
      }
      const trace = traces.get(hop);
      link.wires.forEach((wire) => trace.wires.add(wire));
      if (k === (link.up ? 0 : way.length - 1) && end.node !== undefined) trace.head = true;
    });
  });
  return [...traces.values()];
}
