"use strict";
// Theme button, sortable and filterable tables, redacted words and heat-maps. No library, no network.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // Theme: as the system, light, dark. Remembered where the browser lets a local file do so.
  const themes = ["as the system", "light", "dark"];
  const button = document.querySelector("[data-theme-button]");
  const remembered = () => { try { return localStorage.getItem("nllb-theme"); } catch { return null; } };
  const setTheme = (theme) => {
    if (theme === themes[0]) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Colours: ${theme}`;
    button.dataset.now = theme;
    try { localStorage.setItem("nllb-theme", theme); } catch { /* a private window remembers nothing */ }
    document.dispatchEvent(new Event("themechange"));
  };
  button.hidden = false;
  button.addEventListener("click", () => setTheme(themes[(themes.indexOf(button.dataset.now) + 1) % 3]));
  setTheme(themes.includes(remembered()) ? remembered() : themes[0]);

  // Tables on narrow screens: rows become cards, in which each cell carries its column's name.
  for (const table of all("table")) {
    const names = all("thead th", table).map((head) => head.textContent.trim());
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, column) => {
        const name = make("span", { class: "narrow-head", "aria-hidden": "true" }, names[column]);
        cell.prepend(name);
      });
    }
    table.closest(".scroll")?.classList.add("cards");
  }

  // Tables: a click on a column head sorts; numbers by value, missing ones last.
  const collator = new Intl.Collator("en", { numeric: true });
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.lastChild.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const label = make("button", { type: "button" });
      label.append(...head.childNodes);
      head.append(label);
      label.addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const now = head.getAttribute("aria-sort");
        const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
        });
        table.tBodies[0].append(...keyed.map(([, row]) => row));
      });
    });
  }
  for (const box of all("[data-filter]")) {
    box.closest("label").hidden = false;
    const rows = [...document.getElementById(box.dataset.filter).tBodies[0].rows];
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
      }
    });
  }

  // Redacted words: shown and hidden again by a click.
  for (const word of all("button.redacted")) {
    const mask = word.textContent;
    word.addEventListener("click", () => {
      const shown = word.getAttribute("aria-pressed") === "true";
      word.setAttribute("aria-pressed", String(!shown));
      word.textContent = shown ? mask : word.dataset.word;
    });
  }

  // Heat-maps.
  const decode = (text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Uint16Array(bytes.buffer);
  };
  const MISSING = 65535;
  const sequential = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
  const diverging = ["#7f3b08", "#b35806", "#e08214", "#fdb863", "#f7f7f7", "#92c5de", "#4393c3", "#2166ac", "#053061"];
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const ramp = (stops) => {
    const table = new Uint32Array(256);
    for (let step = 0; step < 256; step++) {
      const place = step / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
      const [a, b] = [channels(stops[low]), channels(stops[low + 1])];
      const [red, green, blue] = a.map((value, k) => Math.round(value + (b[k] - value) * (place - low)));
      table[step] = 255 << 24 | blue << 16 | green << 8 | red;
    }
    return table;
  };
  const ramps = { sequential: ramp(sequential), diverging: ramp(diverging) };
  const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const heatMap = (figure) => {
    const spec = JSON.parse(document.getElementById(figure.dataset.spec).textContent);
    const size = spec.labels.length, scale = spec.scale;
    const layers = spec.layers.map((layer) => ({ ...layer, cells: decode(layer.data) }));
    const canvas = figure.querySelector("canvas.cells"), output = figure.querySelector("output");
    const scaleCanvas = figure.querySelector(".ramp canvas"), [lowLabel, highLabel] = all(".ramp span", figure);
    const controls = figure.querySelector(".controls");
    controls.hidden = false;

    const choice = (title, options) => {
      const select = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
      controls.append(make("label", {}, title, select));
      select.addEventListener("change", draw);
      return select;
    };
    const shown = choice("Show", layers.map((layer, k) => [k, layer.name]));
    const against = choice("Difference from", [["", "nothing"], ...layers.map((layer, k) => [k, layer.name])]);
    const order = choice("Order by", [["code", "language code"], ["mean", "mean score"],
      ...Object.keys(spec.groups).map((group) => [group, group])]);
    let rows = [], columns = [], values = new Float64Array(size * size), pixels = 3;
    let cursor = null;

    const compute = () => {
      const a = layers[shown.value].cells, b = against.value === "" ? null : layers[against.value].cells;
      for (let k = 0; k < values.length; k++) {
        const absent = a[k] === MISSING || (b && b[k] === MISSING);
        values[k] = absent ? NaN : (a[k] - (b ? b[k] : 0)) / scale;
      }
    };
    const means = (along) => spec.labels.map((_, k) => {
      let sum = 0, count = 0;
      for (let other = 0; other < size; other++) {
        const value = values[along === "row" ? k * size + other : other * size + k];
        if (!Number.isNaN(value)) { sum += value; count++; }
      }
      return count ? sum / count : -Infinity;
    });
    const sorted = (along) => {
      const keys = [...Array(size).keys()];
      if (order.value === "mean") {
        const mean = means(along);
        return keys.sort((a, b) => mean[b] - mean[a]);
      }
      const group = spec.groups[order.value];
      return keys.sort((a, b) => (group ? collator.compare(group[a], group[b]) : 0)
        || collator.compare(spec.labels[a], spec.labels[b]));
    };
    const limits = () => {
      const finite = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
      const at = (share) => finite.length ? finite[Math.min(finite.length - 1, Math.floor(share * finite.length))] : 0;
      if (against.value === "") {
        const [low, high] = [at(0.01), at(0.99)];
        return low < high ? [low, high] : [low - 1, high + 1];
      }
      const most = Math.max(Math.abs(at(0.01)), Math.abs(at(0.99)), 0.1);
      return [-most, most];
    };

    function draw() {
      compute();
      rows = sorted("row");
      columns = sorted("column");
      const [low, high] = limits(), table = against.value === "" ? ramps.sequential : ramps.diverging;
      const strip = Math.max(1, Math.round(size / 50)), across = size + strip;
      const image = new ImageData(across, across), cells = new Uint32Array(image.data.buffer);
      const hatch = channels(cssColour("line")), empty = 255 << 24 | hatch[2] << 16 | hatch[1] << 8 | hatch[0];
      const level = (name) => { const c = channels(cssColour(name)); return 255 << 24 | c[2] << 16 | c[1] << 8 | c[0]; };
      const levels = spec.levels.map(level);
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const value = values[rows[y] * size + columns[x]];
          const place = Math.max(0, Math.min(255, Math.round((value - low) / (high - low) * 255)));
          cells[(y + strip) * across + x + strip] = Number.isNaN(value) ? empty : table[place];
        }
        for (let x = 0; x < strip; x++) {
          cells[(y + strip) * across + x] = levels[rows[y]];
          cells[x * across + y + strip] = levels[columns[y]];
        }
      }
      const room = Math.min(figure.clientWidth, 1000) || 606;
      pixels = Math.min(size < 12 ? 44 : 24, Math.max(1, Math.floor(room / across)));
      if (across * 2 > room && pixels < 2) pixels = room / across;
      canvas.width = canvas.height = across;
      canvas.style.width = canvas.style.height = `${across * pixels}px`;
      canvas.getContext("2d").putImageData(image, 0, 0);
      const bar = new ImageData(256, scaleCanvas.height), steps = new Uint32Array(bar.data.buffer);
      for (let k = 0; k < scaleCanvas.height; k++) steps.set(table, k * 256);
      scaleCanvas.getContext("2d").putImageData(bar, 0, 0);
      const sign = against.value === "" ? "" : "+";
      lowLabel.textContent = `${low.toFixed(1)} or less`;
      highLabel.textContent = `${sign}${high.toFixed(1)} or more`;
      figure.dataset.strip = strip;
      say();
    }
    const describe = ([y, x]) => {
      const cell = rows[y] * size + columns[x], [source, target] = [rows[y], columns[x]];
      const name = (k) => `${spec.titles[k]} (${spec.labels[k]})`;
      const lines = layers.map((layer) => {
        const value = layer.cells[cell];
        return `${layer.name} ${value === MISSING ? "missing" : (value / scale).toFixed(2)}`;
      });
      const delta = against.value === "" || Number.isNaN(values[cell]) ? "" :
        `; difference ${values[cell] > 0 ? "+" : ""}${values[cell].toFixed(2)}`;
      return `${name(source)} to ${name(target)}: ${lines.join(", ")}${delta}`;
    };
    function say() {
      output.textContent = cursor ? describe(cursor)
        : "Point at a cell, or focus the map and use the arrow keys. Rows are sources, columns are targets.";
    }
    const move = (y, x) => {
      cursor = [Math.max(0, Math.min(size - 1, y)), Math.max(0, Math.min(size - 1, x))];
      say();
    };
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect(), strip = Number(figure.dataset.strip);
      const step = box.width / (size + strip);
      const y = Math.floor((event.clientY - box.top) / step) - strip;
      const x = Math.floor((event.clientX - box.left) / step) - strip;
      if (y >= 0 && x >= 0 && y < size && x < size) move(y, x);
    });
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const [y, x] = cursor ?? [0, -1];
      move(y + step[0], x + step[1]);
    });
    document.addEventListener("themechange", draw);
    window.addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
  };
  all("figure.heat-map").forEach(heatMap);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
