// Layered drawing of one level: arrange(items, links). The same algorithm as ../layers.py, which explains it.
// item: {width, height, port: '' | 'top' | 'bottom'}; link: {upper, lower, bundle, upperAt, lowerAt (null: anywhere)}
"use strict";

const ITEM_GAP = 28, CELL_GAP = 14, ROW_GAP = 58, PORT_GAP = 30, LEAD = 18, TAIL = 8, SWEEPS = 6, CROSSING = 120;

function arrange(items, links) {
  const linked = new Set(links.flatMap((link) => [link.upper, link.lower]));
  const loose = items.map((_, k) => k).filter((k) => !linked.has(k) && !items[k].port);
  const grid = makeGrid(items, links, layerItems(items, links), linked);
  sortRows(grid);
  let middle = straighten(grid);
  const placed = grid.rows.flat();
  const left = placed.reduce((x, cell) => Math.min(x, middle[cell] - grid.width[cell] / 2), placed.length ? Infinity : 0);
  middle = middle.map((x) => x - left);
  const right = placed.reduce((x, cell) => Math.max(x, middle[cell] + grid.width[cell] / 2), 0);
  const {top, hops, height} = heights(grid, middle);
  const corners = items.map((item, k) => [middle[k] - item.width / 2, top[k]]);
  return {corners, hops, ways: grid.ways, ...shelve(items, loose, corners, right, height)};
}

function layerItems(items, links) {
  const above = items.map(() => new Set()), below = items.map(() => new Set());
  for (const link of links) {
    above[link.lower].add(link.upper);
    below[link.upper].add(link.lower);
  }
  const waiting = above.map((uppers) => uppers.size);
  const first = items.some((item) => item.port === "top") ? 1 : 0;
  const row = items.map((item) => (item.port === "top" ? 0 : first));
  const order = [...items.keys()].filter((k) => !waiting[k]);
  for (const k of order) {
    for (const lower of [...below[k]].sort((a, b) => a - b)) {
      row[lower] = Math.max(row[lower], row[k] + 1);
      if (!--waiting[lower]) order.push(lower);
    }
  }
  for (const k of [...order].reverse()) {
    const readers = [...below[k]].filter((lower) => items[lower].port !== "bottom").map((lower) => row[lower] - 1);
    if (readers.length && !items[k].port && above[k].size <= below[k].size) row[k] = Math.min(...readers);
  }
  const last = items.reduce((most, item, k) => (item.port === "bottom" ? most : Math.max(most, row[k])), 0) + 1;
  return items.map((item, k) => (item.port === "bottom" ? last : row[k]));
}

function makeGrid(items, links, rows, linked) {
  const grid = {items, rowOf: [...rows], width: items.map((item) => item.width), hops: [], ways: links.map(() => [])};
  const cells = new Map(), hops = new Map();
  let budget = 4 * items.length + 400;
  const span = (k) => rows[links[k].lower] - rows[links[k].upper];
  for (const number of [...links.keys()].sort((a, b) => span(a) - span(b) || a - b)) {
    const link = links[number], between = [], missing = [];
    for (let row = rows[link.upper] + 1; row < rows[link.lower]; row++) {
      between.push(row);
      if (!cells.has(`${link.bundle}@${row}`)) missing.push(row);
    }
    const routed = missing.length <= budget;
    if (routed) {
      budget -= missing.length;
      for (const row of missing) {
        cells.set(`${link.bundle}@${row}`, grid.rowOf.length);
        grid.rowOf.push(row);
        grid.width.push(0);
      }
    }
    const stops = [link.upper, ...(routed ? between.map((row) => cells.get(`${link.bundle}@${row}`)) : []), link.lower];
    for (let k = 1; k < stops.length; k++) {
      const [upper, lower] = [stops[k - 1], stops[k]], key = `${link.bundle}@${upper}@${lower}`;
      if (!hops.has(key)) {
        hops.set(key, grid.hops.length);
        const inner = (upper >= items.length) + (lower >= items.length);
        grid.hops.push({
          upper, lower, routed, weight: [1, 2, 6][inner],
          upperAt: upper === link.upper ? link.upperAt : 0, lowerAt: lower === link.lower ? link.lowerAt : 0,
        });
      }
      grid.ways[number].push(hops.get(key));
    }
  }
  return indexGrid(grid, linked);
}

function indexGrid(grid, linked) {
  const count = grid.rowOf.reduce((most, row) => Math.max(most, row), 0) + 1;
  grid.rows = Array.from({length: count}, () => []);
  grid.rowOf.forEach((row, cell) => {
    if (linked.has(cell) || cell >= grid.items.length) grid.rows[row].push(cell);
  });
  grid.above = grid.rowOf.map(() => []);
  grid.below = grid.rowOf.map(() => []);
  for (const hop of grid.hops) {
    if (!hop.routed) continue;
    grid.above[hop.lower].push(hop);
    grid.below[hop.upper].push(hop);
  }
  return grid;
}

function sortRows(grid) {
  const at = new Array(grid.rowOf.length).fill(0);
  for (const row of grid.rows) pack(grid, row, at);
  let best = grid.rows.map((row) => [...row]), least = tangle(grid, at);
  const meanAbove = (cell) => mean(grid.above[cell], (h) => at[h.upper] + h.upperAt - (h.lowerAt || 0), at[cell]);
  const meanBelow = (cell) => mean(grid.below[cell], (h) => at[h.lower] + (h.lowerAt || 0) - h.upperAt, at[cell]);
  for (let sweep = 0; sweep < 2 * SWEEPS; sweep++) {
    for (const row of sweep % 2 ? grid.rows : [...grid.rows].reverse()) {
      const wish = new Map(row.map((cell) => [cell, sweep % 2 ? meanAbove(cell) : meanBelow(cell)]));
      row.sort((a, b) => wish.get(a) - wish.get(b));
      pack(grid, row, at);
    }
    const now = tangle(grid, at);
    if (now < least) [best, least] = [grid.rows.map((row) => [...row]), now];
  }
  grid.rows = best;
}

function mean(list, value, otherwise) {
  return list.length ? list.reduce((sum, x) => sum + value(x), 0) / list.length : otherwise;
}

function gapsOf(grid, row) {
  const count = grid.items.length, gaps = [];
  for (let k = 1; k < row.length; k++) {
    const gap = row[k - 1] < count && row[k] < count ? ITEM_GAP : CELL_GAP;
    gaps.push((grid.width[row[k - 1]] + grid.width[row[k]]) / 2 + gap);
  }
  return gaps;
}

function pack(grid, row, at) {
  const gaps = gapsOf(grid, row);
  let x = -gaps.reduce((a, b) => a + b, 0) / 2;
  row.forEach((cell, k) => {
    at[cell] = x;
    x += gaps[k] || 0;
  });
}

function tangle(grid, at) {
  let total = 0;
  for (const row of grid.rows) {
    const ends = row.flatMap((cell) => grid.below[cell]).map((h) => [at[h.upper] + h.upperAt, at[h.lower] + (h.lowerAt || 0)]);
    ends.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    for (const [x0, x1] of ends) total += Math.abs(x0 - x1);
    total += CROSSING * inversions(ends.map((end) => end[1]));
  }
  return total;
}

function inversions(values) { // pairs out of order, by a binary indexed tree over ranks
  const rank = new Map([...new Set(values)].sort((a, b) => a - b).map((x, k) => [x, k + 1]));
  const tree = new Array(rank.size + 1).fill(0);
  let total = 0;
  values.forEach((x, seen) => {
    let notAbove = 0;
    for (let k = rank.get(x); k > 0; k -= k & -k) notAbove += tree[k];
    total += seen - notAbove;
    for (let k = rank.get(x); k < tree.length; k += k & -k) tree[k]++;
  });
  return total;
}

function straighten(grid) {
  const at = new Array(grid.rowOf.length).fill(0);
  for (const row of grid.rows) pack(grid, row, at);
  for (let sweep = 0; sweep < 2 * SWEEPS; sweep++) {
    const down = sweep % 2 === 0, last = sweep >= 2 * SWEEPS - 2;
    for (const row of down ? grid.rows : [...grid.rows].reverse()) {
      const wishes = [], weights = [];
      for (const cell of row) {
        let weight = 0, wish = 0;
        const add = (hop, end, sign) => {
          weight += hop.weight;
          wish += hop.weight * (at[end] + sign * (hop.upperAt - (hop.lowerAt || 0)));
        };
        if (down || last) for (const hop of grid.above[cell]) add(hop, hop.upper, 1);
        if (!down || last) for (const hop of grid.below[cell]) add(hop, hop.lower, -1);
        wishes.push(weight ? wish / weight : at[cell]);
        weights.push(weight || 0.1);
      }
      spread(wishes, weights, gapsOf(grid, row)).forEach((x, k) => { at[row[k]] = x; });
    }
  }
  return at;
}

function spread(wishes, weights, gaps) {
  const offsets = [0], pools = [];
  for (const gap of gaps) offsets.push(offsets[offsets.length - 1] + gap);
  wishes.forEach((wish, k) => {
    let pool = {mean: wish - offsets[k], mass: weights[k], members: 1};
    while (pools.length && pools[pools.length - 1].mean > pool.mean) {
      const other = pools.pop(), mass = pool.mass + other.mass;
      pool = {mean: (pool.mean * pool.mass + other.mean * other.mass) / mass, mass, members: pool.members + other.members};
    }
    pools.push(pool);
  });
  return pools.flatMap((pool) => new Array(pool.members).fill(pool.mean)).map((x, k) => x + offsets[k]);
}

function heights(grid, at) {
  const count = grid.items.length;
  const tall = grid.rows.map((row) => row.reduce((most, c) => Math.max(most, c < count ? grid.items[c].height : 0), 0));
  const start = [0], top = [], bottom = [];
  for (let k = 1; k < tall.length; k++) start.push(start[k - 1] + tall[k - 1] + rowGap(grid, k - 1, at));
  grid.rowOf.forEach((row, cell) => {
    const height = cell < count ? grid.items[cell].height : tall[row];
    const share = !grid.above[cell].length ? 1 : !grid.below[cell].length ? 0 : 0.5;
    top[cell] = start[row] + (tall[row] - height) * share;
    bottom[cell] = top[cell] + height;
  });
  arriveSideBySide(grid, at);
  const hops = grid.hops.map((hop) => {
    const leave = grid.rowOf[hop.upper], reach = grid.rowOf[hop.lower];
    const y1 = start[leave] + tall[leave], y2 = start[reach], roomy = y2 - y1 > LEAD + TAIL + 16;
    return {
      x0: at[hop.upper] + hop.upperAt, y0: hop.upper < count ? bottom[hop.upper] : top[hop.upper],
      y1: y1 + (roomy ? LEAD : 0), x1: at[hop.lower] + (hop.lowerAt || 0),
      y2: y2 - (roomy ? TAIL : Math.min(TAIL, (y2 - y1) / 4)), y3: top[hop.lower],
    };
  });
  return {top, hops, height: start[start.length - 1] + tall[tall.length - 1]};
}

function rowGap(grid, row, at) {
  const isPort = (cell) => cell < grid.items.length && grid.items[cell].port;
  const ports = grid.rows[row].some(isPort) || grid.rows[row + 1].some(isPort);
  let far = 0;
  for (const cell of grid.rows[row]) for (const h of grid.below[cell]) far = Math.max(far, Math.abs(at[h.upper] - at[h.lower]));
  return (ports ? PORT_GAP : ROW_GAP) + Math.min(60, 0.06 * far);
}

function arriveSideBySide(grid, at) {
  const arriving = new Map();
  for (const hop of grid.hops) {
    if (hop.lowerAt !== null) continue;
    if (!arriving.has(hop.lower)) arriving.set(hop.lower, []);
    arriving.get(hop.lower).push(hop);
  }
  for (const [cell, hops] of arriving) {
    hops.sort((a, b) => at[a.upper] + a.upperAt - at[b.upper] - b.upperAt);
    const step = Math.min(20, (0.8 * grid.width[cell]) / hops.length);
    hops.forEach((hop, k) => { hop.lowerAt = (k - (hops.length - 1) / 2) * step; });
  }
}

function shelve(items, loose, corners, width, height) {
  let area = 0, tallest = height;
  for (const k of loose) {
    area += (items[k].width + ITEM_GAP) * (items[k].height + ITEM_GAP);
    tallest = Math.max(tallest, items[k].height);
  }
  tallest = Math.max(tallest, 0.7 * Math.sqrt(area));
  let x = width + (width ? ITEM_GAP : 0), y = 0, column = 0;
  for (const k of loose) {
    if (y && y + items[k].height > tallest) [x, y, column] = [x + column + ITEM_GAP, 0, 0];
    corners[k] = [x, y];
    y += items[k].height + ITEM_GAP;
    column = Math.max(column, items[k].width);
    width = Math.max(width, x + column);
    height = Math.max(height, y - ITEM_GAP);
  }
  return {width, height};
}
