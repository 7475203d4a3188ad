// One instance on the page: its row (a card on a phone), kept and updated in place, so that focus,
// selection and an editor that is open survive what happens meanwhile.

// Pairs of metadata that are shown without being asked for.
const PAIRS_SHOWN = 2;
// The part of its time to live after which a silent instance is marked.
const LATE = 0.9;

/** Rows that are on the screen: only they tick, and only their heartbeats are asked for. */
const rowsOnScreen = new Set();
const rowOfElement = new WeakMap();
const screenObserver = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = rowOfElement.get(target);
    if (!row) continue;
    if (isIntersecting) {
      rowsOnScreen.add(row);
      row.tick();
      askForHeartbeatsSoon();
    } else rowsOnScreen.delete(row);
  }
});

class Row {
  constructor(instance) {
    const cell = (name, label, ...children) => el("td", { class: name, role: "cell", "data-label": label }, ...children);
    this.state = el("span", { class: "state" });
    this.addr = el("div", { class: "addr" });
    this.id = el("div", { class: "id" });
    this.set = el("button", { type: "button", class: "set" });
    this.weight = cell("weight", "Weight", this.set);
    this.zone = cell("zone", "Zone");
    this.version = cell("version", "Version");
    this.metadata = cell("metadata", "Metadata");
    this.seen = cell("seen", "Last heartbeat");
    this.age = cell("age", "Registered for");
    this.act = el("button", { type: "button", class: "act" });
    this.element = el("tr", { role: "row" },
      cell("state-cell", null, this.state),
      cell("instance", null, this.addr, this.id),
      this.weight, this.zone, this.version, this.metadata, this.seen, this.age,
      cell("act-cell", null, this.act));
    this.set.addEventListener("click", () => this.edit());
    this.act.addEventListener("click", () => this.drainOrNot());
    rowOfElement.set(this.element, this);
    screenObserver.observe(this.element);
    this.update(instance);
  }

  remove() {
    screenObserver.unobserve(this.element);
    rowsOnScreen.delete(this);
    this.element.remove();
  }

  update(instance) {
    if (this.instance === instance) return;
    this.instance = instance;
    const { id, addr, state, weight, overrides } = instance;
    setAttribute(this.state, "class", `state ${state}`);
    setText(this.state, state);
    setText(this.addr, addr);
    setText(this.id, id === addr ? "" : id);
    setText(this.set, String(weight));
    setAttribute(this.set, "aria-label", `Weight ${weight} of ${id}: change`);
    this.set.classList.toggle("overridden", overrides?.weight !== undefined);
    setAttribute(this.set, "title", overrides?.weight === undefined
      ? "As its server registered it; click to set another"
      : "Set by an operator; click to change it, or to take it back");
    optional(this.zone, instance.zone);
    optional(this.version, instance.version);
    this.showMetadata(instance.metadata ?? {});
    const action = this.action();
    setText(this.act, action.text);
    setAttribute(this.act, "aria-label", `${action.text} ${id}`);
    setAttribute(this.act, "title", action.title);
    this.tick();
  }

  /** What the button does: the opposite of what holds the instance back now. */
  action() {
    const { state, weight, overrides } = this.instance;
    if (overrides?.drain) return { text: "Undrain", title: "Let it have calls again", patch: { drain: null } };
    if (weight === 0 && overrides?.weight === 0) {
      return { text: "Undrain", title: "Take back the weight of 0", patch: { weight: null } };
    }
    const title = state === "draining"
      ? "Its server says that it is draining; this keeps it so"
      : "It finishes what it has and gets no further calls";
    return { text: "Drain", title, patch: { drain: true } };
  }

  async drainOrNot() {
    const { text, patch } = this.action();
    await this.change(patch, `${this.instance.id}: ${text === "Drain" ? "draining" : "no longer drained"}`);
  }

  async change(patch, done) {
    if (this.act.getAttribute("aria-busy") === "true") return;
    this.act.setAttribute("aria-busy", "true");
    try {
      await patchInstance(this.instance, patch, done);
    } finally {
      this.act.removeAttribute("aria-busy");
    }
  }

  /** Puts a field in place of the weight. Enter keeps what is in it, nothing in it takes the override back. */
  edit() {
    if (this.editor) return;
    const { id, weight, overrides } = this.instance;
    const field = el("input", {
      type: "number", min: 0, max: 65535, step: 1, value: weight, inputmode: "numeric",
      "aria-label": `Weight of ${id}`, title: "0 to 65535; Enter sets it, Escape leaves it as it is",
    });
    const form = el("form", { class: "editor", novalidate: "" }, field);
    const close = (refocus) => {
      if (this.editor !== form) return;
      this.editor = null;
      form.replaceWith(this.set);
      if (refocus) this.set.focus();
    };
    if (overrides?.weight !== undefined) {
      const reset = el("button", { type: "button", class: "act", title: "Back to what its server registered" }, "Reset");
      reset.addEventListener("click", () => {
        close(true);
        this.change({ weight: null }, `${id}: weight as registered`);
      });
      form.append(reset);
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim(), wanted = Number(text);
      if (text !== "" && !(Number.isInteger(wanted) && wanted >= 0 && wanted <= 65535)) {
        toast("A weight is a whole number from 0 to 65535.", true);
        return;
      }
      close(true);
      if (text === "") this.change({ weight: null }, `${id}: weight as registered`);
      else if (wanted !== weight) this.change({ weight: wanted }, `${id}: weight ${wanted}`);
    });
    form.addEventListener("keydown", (event) => { if (event.key === "Escape") close(true); });
    form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) close(false); });
    this.editor = form;
    this.set.replaceWith(form);
    field.focus();
    field.select();
  }

  showMetadata(metadata) {
    const pairs = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
    const text = JSON.stringify(pairs);
    if (text === this.metadataText) return;
    this.metadataText = text;
    this.metadata.classList.toggle("nothing", pairs.length === 0);
    if (pairs.length === 0) return this.metadata.replaceChildren("–");
    const chips = pairs.map(([key, value]) =>
      el("span", { class: "pair", title: `${key}=${value}` }, el("span", {}, `${key}=`), value));
    const list = el("div", { class: "pairs" });
    const long = pairs.length > PAIRS_SHOWN || pairs.some(([key, value]) => key.length + value.length > 28);
    const more = el("button", { type: "button", class: "more", "aria-expanded": "false" });
    const show = (open) => {
      list.classList.toggle("open", open);
      more.setAttribute("aria-expanded", String(open));
      more.textContent = open ? "less" : pairs.length > PAIRS_SHOWN ? `${pairs.length - PAIRS_SHOWN} more` : "whole";
      list.replaceChildren(...(open ? chips : chips.slice(0, PAIRS_SHOWN)), ...(long ? [more] : []));
    };
    more.addEventListener("click", () => {
      show(!list.classList.contains("open"));
      more.focus();
    });
    show(false);
    this.metadata.replaceChildren(list);
  }

  /** What moves by itself: the age, and how long ago it was heard of. */
  tick() {
    const now = registryNow();
    const { registered_at: since, last_seen: seen, ttl_ms: ttl } = this.instance;
    setText(this.age, since ? duration(now - Date.parse(since)) : "–");
    setAttribute(this.age, "title", since ? `since ${new Date(since).toLocaleString()}` : null);
    const silent = seen ? now - Date.parse(seen) : null;
    setText(this.seen, silent === null ? "…" : `${duration(silent)} ago`);
    this.seen.classList.toggle("late", silent !== null && silent > ttl * LATE);
    setAttribute(this.seen, "title", seen ? `${new Date(seen).toLocaleString()}; it expires ${duration(ttl)} after a heartbeat` : null);
  }
}

function optional(cell, text) {
  setText(cell, text || "–");
  cell.classList.toggle("nothing", !text);
}
