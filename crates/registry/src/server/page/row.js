// The row of one instance (a card on a phone), updated in place: the focus, a selection and an open
// editor survive events.

// Metadata pairs that are shown while the list is collapsed.
const COLLAPSED_PAIRS = 2;
// A collapsed pair with more characters is cut off.
const MAX_PAIR_LENGTH = 28;
// The share of its time to live after which a silent instance is marked.
const LATE = 0.9;

/** Rows that are on the screen: only their ages are updated and their heartbeats requested. */
const rowsOnScreen = new Set();
const rowOfElement = new WeakMap();
const screenObserver = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = rowOfElement.get(target);
    if (!row) continue;
    if (isIntersecting) {
      rowsOnScreen.add(row);
      row.updateAges();
      requestHeartbeatsSoon();
    } else rowsOnScreen.delete(row);
  }
});

class Row {
  constructor(instance) {
    this.state = el("span", { class: "state" });
    this.addr = el("div", { class: "addr" });
    this.id = el("div", { class: "id" });
    this.weightButton = el("button", { type: "button", class: "set" });
    this.weight = makeCell("weight", "Weight", this.weightButton);
    this.zone = makeCell("zone", "Zone");
    this.version = makeCell("version", "Version");
    this.metadata = makeCell("metadata", "Metadata");
    this.lastSeen = makeCell("seen", "Last heartbeat");
    this.age = makeCell("age", "Registered for");
    this.drainButton = el("button", { type: "button", class: "act" });
    this.element = makeRow(
      makeCell("state-cell", null, this.state),
      makeCell("instance", null, this.addr, this.id),
      this.weight, this.zone, this.version, this.metadata, this.lastSeen, this.age,
      makeCell("act-cell", null, this.drainButton));
    this.weightButton.addEventListener("click", () => this.editWeight());
    this.drainButton.addEventListener("click", () => this.toggleDrain());
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
    setText(this.weightButton, String(weight));
    setAttribute(this.weightButton, "aria-label", `Weight ${weight} of ${id}: change`);
    this.weightButton.classList.toggle("overridden", overrides?.weight !== undefined);
    setAttribute(this.weightButton, "title", overrides?.weight === undefined
      ? "As registered by the server; click to override it"
      : "Overridden by an operator; click to change or reset it");
    setOptionalText(this.zone, instance.zone);
    setOptionalText(this.version, instance.version);
    this.updateMetadata(instance.metadata ?? {});
    const action = this.action();
    setText(this.drainButton, action.text);
    setAttribute(this.drainButton, "aria-label", `${action.text} ${id}`);
    setAttribute(this.drainButton, "title", action.title);
    this.updateAges();
  }

  /** What the drain button does: it reverses what keeps calls away, or drains. */
  action() {
    const { state, weight, overrides } = this.instance;
    if (overrides?.drain) return { text: "Undrain", title: "Let the instance receive calls again", patch: { drain: null } };
    if (weight === 0 && overrides?.weight === 0) {
      return { text: "Undrain", title: "Reset the weight of 0", patch: { weight: null } };
    }
    const title = state === "draining"
      ? "The server reports that it is draining; this keeps it draining"
      : "The instance finishes its current calls and receives no new ones";
    return { text: "Drain", title, patch: { drain: true } };
  }

  async toggleDrain() {
    const { text, patch } = this.action();
    await this.change(patch, `${this.instance.id}: ${text === "Drain" ? "draining" : "no longer drained"}`);
  }

  async change(patch, successText) {
    if (this.drainButton.getAttribute("aria-busy") === "true") return;
    this.drainButton.setAttribute("aria-busy", "true");
    try {
      await patchInstance(this.instance, patch, successText);
    } finally {
      this.drainButton.removeAttribute("aria-busy");
    }
  }

  /** Replaces the weight with a field. Enter sets its value; an empty field removes the override. */
  editWeight() {
    if (this.editor) return;
    const { id, weight, overrides } = this.instance;
    const field = el("input", {
      type: "number", min: 0, max: 65535, step: 1, value: weight, inputmode: "numeric",
      "aria-label": `Weight of ${id}`, title: "0 to 65535; Enter sets it, Escape cancels",
    });
    const form = el("form", { class: "editor", novalidate: "" }, field);
    const close = (refocus) => {
      if (this.editor !== form) return;
      this.editor = null;
      form.replaceWith(this.weightButton);
      if (refocus) this.weightButton.focus();
    };
    const resetWeight = () => this.change({ weight: null }, `${id}: weight as registered`);
    if (overrides?.weight !== undefined) {
      const reset = el("button", { type: "button", class: "act", title: "Reset to the registered weight" }, "Reset");
      reset.addEventListener("click", () => {
        close(true);
        resetWeight();
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
      if (text === "") resetWeight();
      else if (wanted !== weight) this.change({ weight: wanted }, `${id}: weight ${wanted}`);
    });
    form.addEventListener("keydown", (event) => { if (event.key === "Escape") close(true); });
    form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) close(false); });
    this.editor = form;
    this.weightButton.replaceWith(form);
    field.focus();
    field.select();
  }

  updateMetadata(metadata) {
    const pairs = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
    const text = JSON.stringify(pairs);
    if (text === this.metadataText) return;
    this.metadataText = text;
    this.metadata.classList.toggle("nothing", pairs.length === 0);
    if (pairs.length === 0) return this.metadata.replaceChildren("–");
    const chips = pairs.map(([key, value]) =>
      el("span", { class: "pair", title: `${key}=${value}` }, el("span", {}, `${key}=`), value));
    const list = el("div", { class: "pairs" });
    const isLong = pairs.length > COLLAPSED_PAIRS || pairs.some(([key, value]) => key.length + value.length > MAX_PAIR_LENGTH);
    const button = el("button", { type: "button", class: "more", "aria-expanded": "false" });
    const show = (open) => {
      list.classList.toggle("open", open);
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "less" : pairs.length > COLLAPSED_PAIRS ? `${pairs.length - COLLAPSED_PAIRS} more` : "whole";
      list.replaceChildren(...(open ? chips : chips.slice(0, COLLAPSED_PAIRS)), ...(isLong ? [button] : []));
    };
    button.addEventListener("click", () => {
      show(!list.classList.contains("open"));
      button.focus();
    });
    show(false);
    this.metadata.replaceChildren(list);
  }

  /** Updates what changes with time alone: the age, and the time since the last heartbeat. */
  updateAges() {
    const now = serverNow();
    const { registered_at: since, last_seen: lastSeen, ttl_ms: ttl } = this.instance;
    setText(this.age, since ? duration(now - Date.parse(since)) : "–");
    setAttribute(this.age, "title", since ? `since ${new Date(since).toLocaleString()}` : null);
    const silence = lastSeen ? now - Date.parse(lastSeen) : null;
    setText(this.lastSeen, silence === null ? "…" : `${duration(silence)} ago`);
    this.lastSeen.classList.toggle("late", silence !== null && silence > ttl * LATE);
    setAttribute(this.lastSeen, "title", lastSeen ? `${new Date(lastSeen).toLocaleString()}; expires ${duration(ttl)} after a heartbeat` : null);
  }
}

function setOptionalText(cell, text) {
  setText(cell, text || "–");
  cell.classList.toggle("nothing", !text);
}
