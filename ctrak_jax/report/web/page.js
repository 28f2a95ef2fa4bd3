"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const data = JSON.parse(at("index").textContent);

  // Blocks: in the page itself, or scripts beside it that call ctrak(name, value).
  const blocks = new Map();
  const waiting = new Map();
  window.ctrak = (name, value) => waiting.get(name)(value);

  function block(name) {
    if (blocks.has(name)) return blocks.get(name);
    const loaded = new Promise((resolve, reject) => {
      const inline = at(name);
      if (inline) {
        resolve(JSON.parse(inline.textContent));
        return;
      }
      waiting.set(name, resolve);
      const script = make("script");
      script.src = `data/${name}.js`;
      script.onerror = () => reject(new Error(`${script.src} does not load`));
      document.head.append(script);
    });
    blocks.set(name, loaded);
    loaded.catch(() => {
      at("status").textContent = `data/${name}.js does not load: keep report/ together.`;
    });
    return loaded;
  }

  // One entry of a numbered list that is cut into blocks of a size.
  async function entry(kind, list, nth) {
    const size = data.sizes[kind];
    return (await block(`${kind}-${Math.floor(nth / size)}`))[list][nth % size];
  }

  // A block with its picture, and one of the pictures that this is made of.
  const sheets = new Map();
  function sheet(name) {
    if (!sheets.has(name)) {
      sheets.set(name, block(name).then(async (value) => {
        if (!value.src) return { value };
        const picture = new Image();
        await new Promise((loaded, failed) => {
          picture.onload = loaded;
          picture.onerror = failed;
          picture.src = value.src;
        });
        return { value, picture };
      }));
    }
    return sheets.get(name);
  }

  function paint(canvas, picture, { width, height, columns }, nth) {
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").drawImage(
      picture, (nth % columns) * width, Math.floor(nth / columns) * height, width, height,
      0, 0, width, height);
  }

  // Queries with what the index says of them; `number` counts through all seeds.
  const queries = [];
  data.runs.forEach((run, place) => {
    for (const [id, kind, condition, concepts] of run.queries) {
      const query = {
        number: queries.length, run: place, id, ...data.kinds[kind],
        condition: data.conditions[condition],
        concepts: concepts.map((nth) => data.concepts[nth]),
      };
      const words = query.concepts.map((c) => `${c.attribute}=${c.value} ${c.text}`);
      query.words = [id, query.scope, query.scenario, query.condition, ...words]
        .join(" ").toLowerCase();
      queries.push(query);
    }
  });

  // The address after # is the state: what is shown, and the filters.
  const FILTERS = ["scenario", "scope", "attribute", "method", "text"];
  const asked = () => new URLSearchParams(location.hash.slice(1));

  function go(change, replace) {
    const wanted = asked();
    for (const [name, value] of Object.entries(change)) {
      if (value === "" || value === null) wanted.delete(name);
      else wanted.set(name, value);
    }
    const hash = `#${wanted}`;
    if (replace) {
      history.replaceState(null, "", hash);
      draw();
    } else if (hash !== (location.hash || "#")) {
      // Draws by hashchange.
      location.hash = hash;
    }
  }

  function read(wanted = asked()) {
    const get = (name) => wanted.get(name) || "";
    const seed = data.runs.findIndex((run) => String(run.seed) === get("seed"));
    const run = seed < 0 ? data.runs.findIndex((found) => found.queries.length > 0) : seed;
    const words = get("text").toLowerCase().split(/\s+/).filter(Boolean);
    const matching = queries.filter((query) => query.run === run
      && (!get("scenario") || query.scenario === get("scenario"))
      && (!get("scope") || query.scope === get("scope"))
      && (!get("attribute") || query.concepts.some((c) => c.attribute === get("attribute")))
      && words.every((word) => query.words.includes(word)));
    const linked = queries.find((query) => query.run === run && query.id === get("query"));
    const query = linked || matching[0];
    const concepts = query ? query.concepts : [];
    const concept = concepts.find((c) => c.attribute === (get("attribute") || get("concept")))
      || concepts[0];
    const named = get("candidates") === "named";
    const where = get("where") === "1";
    return { run, query, concept, matching, named, where, method: get("method") };
  }

  function chip(parent, text, pressed, act) {
    const button = make("button", "", text);
    button.type = "button";
    button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", act);
    parent.append(button);
  }

  // The thumbnails around the query shown.
  const AROUND = 16;
  function drawThumbs({ query, matching, run }) {
    const place = matching.indexOf(query);
    const first = Math.max(0, Math.min(place - AROUND, matching.length - 2 * AROUND - 1));
    at("thumbs").replaceChildren();
    for (const other of matching.slice(first, first + 2 * AROUND + 1)) {
      const button = make("button");
      button.type = "button";
      button.title = `${other.id}: ${other.condition}`;
      button.setAttribute("aria-pressed", String(other === query));
      const picture = make("img");
      picture.alt = other.id;
      entry("queries", "pictures", other.number).then((src) => { picture.src = src; }, () => {});
      button.append(picture);
      button.addEventListener("click", () => go({ query: other.id }));
      at("thumbs").append(button);
      if (other === query) {
        at("thumbs").scrollLeft = button.offsetLeft - at("thumbs").clientWidth / 2;
      }
    }
    const all = data.runs[run].queries.length;
    const found = matching.length === all ? `${all}` : `${matching.length} that match, ${all} in all`;
    at("count").textContent =
      place < 0 ? `not among ${found}` : `image ${place + 1} of ${found}`;
  }

  function drawQuestion({ query, concept, run }) {
    at("query-image").alt = `generated as ${query.condition}`;
    at("asked").classList.toggle("wide", query.scope === "global");
    at("query-name").textContent =
      `${query.id}: generated as ${query.condition}; ${query.scope}, ${query.text}`;
    at("question").replaceChildren(
      "Which training images taught ", make("em", "", concept.text), "?");
    at("concepts").replaceChildren();
    for (const c of query.concepts) {
      chip(at("concepts"), `${c.attribute}: ${c.value}`, c === concept, () => choose(c));
    }
    at("seeds").replaceChildren();
    if (data.runs.length > 1) {
      at("seeds").append("Training seed");
      data.runs.forEach((other, place) => {
        chip(at("seeds"), String(other.seed), place === run, () => go({ seed: other.seed }));
      });
    }
  }

  function choose(concept) {
    const filtered = asked().has("attribute");
    go({ query: read().query.id, [filtered ? "attribute" : "concept"]: concept.attribute });
  }

  function drawCommand(command, { method, run }) {
    at("ask").hidden = !command;
    if (!command) return;
    const chosen = data.methods.find((m) => m.id === method && m.asks)
      || data.methods.find((m) => m.main) || data.methods.find((m) => m.asks);
    const words = [command];
    if (chosen && !chosen.main) words.push(`--method ${chosen.id}`);
    if (data.runs.length > 1) words.push(`--seed ${data.runs[run].seed}`);
    at("command").textContent = words.join(" ");
    at("copied").textContent = "";
  }

  async function fill(frame) {
    if (frame.title) return;
    const { tile, score, place, carries, map } = frame.hit;
    const { value: tiles, picture } = await sheet(`tiles-${Math.floor(tile / data.sizes.tiles)}`);
    const nth = tile % data.sizes.tiles;
    frame.title = [
      `${place}, ${carries ? "carries the concept" : "does not carry the concept"}`,
      `score ${score.toPrecision(3)}`,
      `dataset index ${tiles.index[nth]}`,
      ...data.attributes.map((a, row) => `${a.name}: ${a.values[tiles.codes[row][nth]]}`),
    ].join("\n");
    const canvas = frame.firstChild;
    canvas.setAttribute("aria-label", frame.title);
    if (map) {
      paint(canvas, (await sheet(map.block)).picture, data.maps, map.nth);
      frame.classList.add("mapped");
    } else if (!picture || tile >= data.tile.drawn) {
      frame.append(make("span", "index", tiles.index[nth]));
    } else {
      paint(canvas, picture, data.tile, nth);
    }
  }

  // Thumbnails are loaded when they come near the window.
  const watch = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      fill(target).catch(() => {});
    }
  }, { rootMargin: "300px" });

  function drawTile(hit) {
    const frame = make("div", `tile ${hit.carries ? "yes" : "no"}`);
    const canvas = make("canvas");
    canvas.width = data.tile.width;
    canvas.height = data.tile.height;
    canvas.setAttribute("role", "img");
    frame.hit = hit;
    frame.append(canvas);
    watch.observe(frame);
    return frame;
  }

  function drawRow([place, largest, tiles, scores, carriers, highs], maps) {
    const method = data.methods[place];
    const mapped = maps && method.id === data.maps.method;
    const hits = tiles.map((tile, nth) => ({
      tile,
      map: mapped && nth < highs ? { block: maps, nth } : null,
      score: (largest * scores[nth]) / data.sizes.shares,
      carries: carriers[nth] === "1",
      place: nth < highs ? `rank ${nth + 1}` : `rank ${nth - highs + 1} from the end`,
    }));
    const row = make("div", `row${method.main ? " main" : ""}${method.reference ? " reference" : ""}`);
    row.dataset.method = method.id;
    const heading = make("div", "heading");
    const name = make("div", "name", method.short);
    if (method.note) name.append(make("span", "note", method.note));
    const [top, bottom] = [hits.slice(0, highs), hits.slice(highs)];
    const count = (some) => `${some.filter((hit) => hit.carries).length} of ${some.length}`;
    heading.append(name, make("div", "count", count(top)));
    const strip = make("div", "tiles");
    strip.append(...top.map(drawTile));
    row.append(heading, strip);
    if (bottom.length > 0) {
      const low = make("div", "tiles low");
      low.append(...bottom.map(drawTile));
      row.append(make("div", "low count", `lowest: ${count(bottom)}`), low);
    }
    return row;
  }

  const quoted = (word) =>
    (/^[\w.:=@%+,/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

  // Why a question has no maps to show, and the command that gives some; nothing where it has.
  function lacking({ query, concept, run, named }, [, , , ofUnnamed, where]) {
    const { explain, report, method, count } = data.maps;
    if (query.scope === "global") return "A question about no image has no maps.";
    if (where && (named || ofUnnamed.length === 0 || where[1])) return "";
    if (where) return "These maps are of the ranking where conditions name the attribute.";
    const words = [explain, `--query ${quoted(query.id)}`, `--concept ${quoted(concept.attribute)}`];
    const main = data.methods.find((m) => m.id === method);
    if (main && !main.main) words.push(`--method ${method}`);
    if (data.runs.length > 1) words.push(`--seed ${data.runs[run].seed}`);
    return `No maps of this question. Make a page of them: ${words.join(" ")}; or those of N `
      + `questions in this report${count > 0 ? `, which has ${count}` : ""}: ${report} N`;
  }

  // The switch, its note, and the map over the query; gives the block of the maps to show.
  function drawWhere(state, answer) {
    if (!data.maps) return null;
    const lacks = lacking(state, answer);
    const on = state.where && !lacks;
    at("where").checked = on;
    at("where").disabled = Boolean(lacks);
    at("where-switch").title = lacks || "Lay where the scores come from over the pictures (W)";
    at("query-image").hidden = on;
    at("query-map").hidden = !on;
    at("where-note").replaceChildren();
    if (!on) {
      if (state.where) at("where-note").textContent = lacks;
      return null;
    }
    const { short } = data.methods.find((m) => m.id === data.maps.method);
    at("where-note").append(
      make("span", "adds", "adds to the score"), make("span", "takes", "takes away"),
      `Maps of ${short}’s first images, and of the query for all of them together; colours are `
      + "scaled picture by picture.");
    const name = `maps-${answer[4][0]}`;
    sheet(name).then(({ value, picture }) => {
      paint(at("query-map"), picture, data.maps, value.images);
      at("query-map").setAttribute("aria-label", "where in the query the scores come from");
    }, () => {});
    return name;
  }

  function drawRows(answer, { named, method, concept }, maps) {
    const [, minus, ofAll, ofUnnamed] = answer;
    const notes = [];
    if (minus) notes.push(`Contrasted with ${minus}.`);
    if (concept.base_rate !== null) {
      notes.push(`${(100 * concept.base_rate).toFixed(0)}% of the training images carry it.`);
    }
    at("query-note").textContent = notes.join(" ");
    at("measures").replaceChildren();
    if (ofUnnamed.length > 0) {
      at("measures").append(`Candidates’ ${concept.attribute}`);
      chip(at("measures"), "not named", !named, () => go({ candidates: "" }));
      chip(at("measures"), "named", named, () => go({ candidates: "named" }));
    }
    const rankings = named || ofUnnamed.length === 0 ? ofAll : ofUnnamed;
    const shown = rankings.filter(([place]) => {
      const { id, ablation } = data.methods[place];
      return method ? id === method : !ablation || at("ladder").checked;
    });
    watch.disconnect();
    at("rows").replaceChildren(...shown.map((ranking) => drawRow(ranking, maps)));
    if (shown.length === 0) at("rows").append(make("p", "quiet", "This method has no answer here."));
  }

  let turn = 0;
  async function draw() {
    const mine = ++turn;
    const state = read();
    const focused = document.activeElement && document.activeElement.parentElement;
    for (const name of FILTERS) {
      const value = asked().get(name) || "";
      if (at(name).value !== value) at(name).value = value;
    }
    at("answer").hidden = !state.query;
    if (!state.query) {
      at("thumbs").replaceChildren();
      at("count").textContent = "No image matches.";
      document.body.dataset.address = location.hash;
      return;
    }
    drawThumbs(state);
    drawQuestion(state);
    try {
      const [answers, src] = await Promise.all([
        entry("answers", "queries", state.query.number),
        entry("queries", "pictures", state.query.number),
      ]);
      if (mine !== turn) return;
      at("status").textContent = "";
      at("query-image").src = src;
      const answer = answers[state.query.concepts.indexOf(state.concept)];
      drawCommand(answer[0], state);
      drawRows(answer, state, drawWhere(state, answer));
      document.body.dataset.shown = state.query.id;
      document.body.dataset.address = location.hash;
    } catch (error) {
      // block() has said which file is missing.
      return;
    }
    // Redrawing replaced the pressed button; keyboard users stay where they were.
    if (focused && ["seeds", "thumbs", "concepts", "measures"].includes(focused.id)) {
      const pressed = focused.querySelector("[aria-pressed=true]");
      if (pressed) pressed.focus({ preventScroll: true });
    }
  }

  function step(by) {
    const { query, matching } = read();
    if (matching.length === 0) return;
    const place = matching.indexOf(query);
    const next = place < 0 ? 0 : (place + by + matching.length) % matching.length;
    go({ query: matching[next].id });
  }

  function nextConcept() {
    const { query, concept } = read();
    const all = query ? query.concepts : [];
    if (all.length > 1) choose(all[(all.indexOf(concept) + 1) % all.length]);
  }

  function toggle() {
    const { where } = read();
    if (where || !at("where").disabled) go({ where: where ? "" : "1" });
  }

  // A filter leaves the query where it is, if it still matches.
  function filter(name, replace) {
    const { query } = read();
    const value = at(name).value;
    const wanted = asked();
    wanted.set(name, value);
    const stays = query && read(wanted).matching.includes(query);
    go({ [name]: value, query: stays ? query.id : "" }, replace);
  }

  async function copy() {
    const text = at("command").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) {
      // A browser that keeps the clipboard from pages of a disk.
      getSelection().selectAllChildren(at("command"));
      document.execCommand("copy");
    }
    at("copied").textContent = "Copied.";
  }

  function fillFilters() {
    const option = (value, text) => {
      const made = make("option", "", text);
      made.value = value;
      return made;
    };
    const unique = (values) => [...new Set(values)];
    for (const { scenario, text } of data.kinds) {
      if (![...at("scenario").options].some((o) => o.value === scenario)) {
        at("scenario").append(option(scenario, text));
      }
    }
    at("scope").append(...unique(data.kinds.map((k) => k.scope)).map((s) => option(s, s)));
    const attributes = unique(data.concepts.map((c) => c.attribute));
    at("attribute").append(...attributes.map((name) => option(name, name)));
    at("method").append(...data.methods.map(({ id, short }) => option(id, short)));
    at("combinations").append(...data.conditions.map((c) => option(c.replaceAll(",", ""))));
    for (const name of FILTERS.slice(0, -1)) {
      at(name).parentElement.hidden = at(name).options.length < 3;
      at(name).addEventListener("change", () => filter(name, false));
    }
    at("text").addEventListener("input", () => filter("text", true));
  }

  const clear = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  const KEYS = {
    ArrowLeft: () => step(-1), k: () => step(-1),
    ArrowRight: () => step(1), j: () => step(1),
    c: nextConcept,
    w: toggle,
    "/": () => { at("text").focus(); at("text").select(); },
    Escape: () => go(clear),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, input:not([type=checkbox]), textarea")) {
      if (event.key !== "Escape") return;
      event.target.blur();
      go(clear);
    } else if (event.key in KEYS) {
      KEYS[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  });

  const ablations = data.methods.filter((method) => method.ablation).length;
  at("ladder-switch").hidden = ablations === 0 || ablations === data.methods.length;
  at("ladder").checked = ablations === data.methods.length;
  at("ladder").addEventListener("change", draw);
  at("where-switch").hidden = !data.maps;
  at("where").addEventListener("change", toggle);
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("copy").addEventListener("click", copy);
  addEventListener("hashchange", draw);
  addEventListener("beforeprint", () => {
    for (const closed of document.querySelectorAll("details")) closed.open = true;
    for (const frame of document.querySelectorAll("#rows .tile")) fill(frame).catch(() => {});
  });
  if (queries.length === 0) {
    at("explorer").hidden = true;
  } else {
    fillFilters();
    draw();
  }
})();
