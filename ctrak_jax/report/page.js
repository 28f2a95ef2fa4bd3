"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const atlas = new Image();
  await new Promise((loaded, failed) => {
    atlas.onload = loaded;
    atlas.onerror = () => failed(new Error("the atlas of training images does not load"));
    atlas.src = data.atlas.src;
  });

  // Scope, scenario and condition name a group; it is the unit of the select and of the thumbnails.
  const groupOf = (query) => query.group + "\n" + query.condition;
  const state = { run: 0, query: 0, attribute: null, unnamed: true };
  const queries = () => data.runs[state.run].queries;
  const current = () => queries()[state.query];
  const concept = () =>
    current().concepts.find((c) => c.attribute === state.attribute) || current().concepts[0];
  const silent = () => state.unnamed && concept().unnamed.length > 0;

  function chip(parent, text, pressed, act) {
    const button = make("button", "", text);
    button.type = "button";
    button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", act);
    parent.append(button);
  }

  function drawSelect() {
    const sections = new Map();
    queries().forEach((query, place) => {
      if (!sections.has(query.group)) sections.set(query.group, new Map());
      const conditions = sections.get(query.group);
      if (!conditions.has(query.condition)) conditions.set(query.condition, place);
    });
    at("group").replaceChildren();
    for (const [name, conditions] of sections) {
      const section = make("optgroup");
      section.label = name;
      for (const [condition, place] of conditions) {
        // The closed select shows the option alone, without its heading.
        const global = queries()[place].scope === "global";
        const option = make("option", "", global ? `${condition} (global)` : condition);
        option.value = place;
        option.selected = groupOf(queries()[place]) === groupOf(current());
        section.append(option);
      }
      at("group").append(section);
    }
  }

  function drawThumbs() {
    at("thumbs").replaceChildren();
    queries().forEach((query, place) => {
      if (groupOf(query) !== groupOf(current())) return;
      const button = make("button");
      button.type = "button";
      button.title = query.id;
      button.setAttribute("aria-pressed", String(place === state.query));
      const picture = make("img");
      picture.src = data.pictures[query.image];
      picture.alt = query.id;
      button.append(picture);
      button.addEventListener("click", () => show({ query: place }));
      at("thumbs").append(button);
      if (place === state.query) {
        at("thumbs").scrollLeft = button.offsetLeft - at("thumbs").clientWidth / 2;
      }
    });
  }

  function describe(tile, score, rank, carrier) {
    const attributes = data.attributes.map((a) => `${a.name}: ${a.values[a.codes[tile]]}`);
    return [
      `rank ${rank}, ${carrier ? "carries the concept" : "does not carry the concept"}`,
      `score ${score}`,
      `dataset index ${data.index[tile]}`,
      ...attributes,
    ].join("\n");
  }

  function drawTile([tile, score, carrier], place) {
    const { width, height, columns } = data.atlas;
    const frame = make("div", "tile " + (carrier ? "yes" : "no"));
    frame.title = describe(tile, score, place + 1, carrier);
    const canvas = make("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", frame.title);
    canvas.getContext("2d").drawImage(
      atlas, (tile % columns) * width, Math.floor(tile / columns) * height, width, height,
      0, 0, width, height);
    frame.append(canvas);
    return frame;
  }

  function drawRows() {
    at("rows").replaceChildren();
    for (const [place, hits] of silent() ? concept().unnamed : concept().rows) {
      const method = data.methods[place];
      if (method.ablation && !at("ladder").checked) continue;
      const row = make("div", "row" + (method.id === "concept-trak" ? " main" : "")
        + (method.reference ? " reference" : ""));
      const heading = make("div", "heading");
      const name = make("div", "name", method.short);
      if (method.note) name.append(make("span", "note", method.note));
      const carried = hits.filter((hit) => hit[2]).length;
      heading.append(name, make("div", "count", `${carried} of ${hits.length}`));
      const tiles = make("div", "tiles");
      tiles.append(...hits.map(drawTile));
      row.append(heading, tiles);
      at("rows").append(row);
    }
  }

  function drawQuestion() {
    const query = current();
    const asked = concept();
    at("query-image").src = data.pictures[query.image];
    at("query-image").alt = `generated as ${query.condition}`;
    document.querySelector(".asked").classList.toggle("wide", query.scope === "global");
    at("query-name").textContent = `${query.id}: generated as ${query.condition}; ${query.group}`;
    const value = make("em", "", asked.text);
    at("question").replaceChildren("Which training images taught ", value, "?");
    at("concepts").replaceChildren();
    for (const c of query.concepts) {
      chip(at("concepts"), `${c.attribute}: ${c.value}`, c === asked,
        () => show({ attribute: c.attribute }));
    }
    const notes = [];
    if (asked.minus) notes.push(`Contrasted with ${asked.minus}.`);
    if (asked.base_rate !== null) {
      notes.push(`${(100 * asked.base_rate).toFixed(0)}% of the training images carry it.`);
    }
    at("query-note").textContent = notes.join(" ");
  }

  function drawSeeds() {
    at("seeds").replaceChildren();
    if (data.runs.length < 2) return;
    at("seeds").append("Training seed");
    data.runs.forEach((run, place) => {
      chip(at("seeds"), String(run.seed), place === state.run, () => {
        const same = run.queries.findIndex((query) => query.id === current().id);
        show({ run: place, query: Math.max(0, same) });
      });
    });
  }

  function drawMeasures() {
    at("measures").replaceChildren();
    if (concept().unnamed.length === 0) return;
    at("measures").append(`Candidates’ ${concept().attribute}`);
    for (const [text, unnamed] of [["not named", true], ["named", false]]) {
      chip(at("measures"), text, unnamed === state.unnamed, () => show({ unnamed }));
    }
  }

  function show(change) {
    const focused = document.activeElement && document.activeElement.parentElement;
    Object.assign(state, change);
    drawSelect();
    drawSeeds();
    drawThumbs();
    drawQuestion();
    drawMeasures();
    drawRows();
    // Redrawing replaced the pressed button; keyboard users stay where they were.
    if (focused && ["seeds", "thumbs", "concepts", "measures"].includes(focused.id)) {
      const pressed = focused.querySelector("[aria-pressed=true]");
      if (pressed) pressed.focus({ preventScroll: true });
    }
  }

  function step(by) {
    const count = queries().length;
    show({ query: (state.query + by + count) % count });
  }

  function nextConcept() {
    const all = current().concepts;
    show({ attribute: all[(all.indexOf(concept()) + 1) % all.length].attribute });
  }

  at("group").addEventListener("change", (event) => show({ query: Number(event.target.value) }));
  at("ladder").addEventListener("change", drawRows);
  document.addEventListener("keydown", (event) => {
    const typing = ["SELECT", "INPUT"].includes(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "c" || event.key === "C") nextConcept();
    else return;
    event.preventDefault();
  });

  const ablations = data.methods.filter((method) => method.ablation).length;
  at("ladder-switch").hidden = ablations === 0 || ablations === data.methods.length;
  at("ladder").checked = ablations === data.methods.length;
  const first = data.runs.findIndex((run) => run.queries.length > 0);
  if (first < 0) at("explorer").hidden = true;
  else show({ run: first });
})();
