// Parts of a page: the server renders them, and each replaces the element of the same name.

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Fetches a page's parts. Throws an Error when there is no usable answer. */
export async function fetchParts(url, options = {}) {
  const headers = { ...options.headers, "X-Page-Parts": "1" };
  const answer = await fetch(url, { ...options, headers, credentials: "same-origin" });
  const kind = answer.headers.get("Content-Type") || "";
  if (!kind.startsWith("text/html")) throw new Error(`${answer.status} ${kind}`);
  return { parts: new DOMParser().parseFromString(await answer.text(), "text/html"), ok: answer.ok, answer };
}

/** Puts the named parts of a fetched document into the page; what the page lacks is left out. */
export function replaceParts(parts, names = null) {
  for (const fresh of parts.querySelectorAll("[data-part]")) {
    const name = fresh.dataset.part;
    if (names && !names.includes(name)) continue;
    const old = [...document.querySelectorAll(`[data-part="${CSS.escape(name)}"]`)].find((part) => !part.closest("dialog"));
    if (old) swap(old, document.adoptNode(fresh));
  }
}

function swap(old, fresh) {
  const focus = focusIn(old);
  const places = placesOf(old);
  const rows = new Map([...old.querySelectorAll(".shelf")].map((shelf) => [shelf.id, shelf.querySelector(".row")?.scrollLeft || 0]));
  keepOpen(old, fresh);
  keepExplanation(old, fresh);
  old.replaceWith(fresh);
  for (const [id, left] of rows) {
    const row = fresh.querySelector(`#${CSS.escape(id)} .row`);
    if (row) row.scrollLeft = left;
  }
  move(fresh, places);
  bump(old, fresh);
  focus?.(fresh);
}

function keepOpen(old, fresh) {
  for (const was of [old, ...old.querySelectorAll("details[id]")]) {
    if (!was.id || !("open" in was)) continue;
    const is = fresh.id === was.id ? fresh : fresh.querySelector(`#${CSS.escape(was.id)}`);
    if (is) is.open = was.open;
  }
}

function keepExplanation(old, fresh) {
  const was = old.querySelector("#explanation");
  const is = fresh.querySelector("#explanation");
  if (was?.children.length && is && !is.children.length) is.replaceWith(was);
}

/** How to give the focus back to the same control, its card's neighbour, or the shelf's heading. */
function focusIn(old) {
  const active = document.activeElement;
  if (!active || active === old || !old.contains(active)) return null;
  if (active.id) return (fresh) => fresh.querySelector(`#${CSS.escape(active.id)}`)?.focus({ preventScroll: true });
  const card = active.closest(".card");
  if (!card) return null;
  const shelf = card.closest(".shelf, .found, .lines")?.id;
  const place = [...card.closest("ul").children].indexOf(card.closest("li"));
  const control = [".card-link", ".add", ".dismiss button", ".explain-link"].find((selector) => active.matches(selector));
  return (fresh) => {
    const scope = (shelf && fresh.querySelector(`#${CSS.escape(shelf)}`)) || fresh;
    const same = scope.querySelector(`[data-item="${CSS.escape(card.dataset.item)}"]`);
    const cards = scope.querySelectorAll(".card");
    const next = same || cards[Math.min(place, cards.length - 1)];
    const target = next?.querySelector(control || ".card-link") || document.getElementById("main");
    target.focus({ preventScroll: true });
  };
}

function placesOf(part) {
  const found = new Map();
  for (const card of part.querySelectorAll(".shelf .card, .found .card")) found.set(keyOf(card), card.getBoundingClientRect());
  return found;
}

function keyOf(card) {
  return `${card.closest(".shelf")?.id || ""}/${card.dataset.item}`;
}

/** Cards that were there before glide to their new place; only new ones appear. */
function move(part, places) {
  for (const card of part.querySelectorAll(".card")) {
    const before = places.get(keyOf(card));
    if (!before) continue;
    card.style.animation = "none";
    if (calm.matches) continue;
    const after = card.getBoundingClientRect();
    const [x, y] = [before.left - after.left, before.top - after.top];
    if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

function bump(old, fresh) {
  const [was, is] = [old, fresh].map((part) => part.querySelector(".count"));
  if (is && was && is.textContent !== was.textContent) is.classList.add("bump");
}

/** Marks the lists as being fetched again while `work` goes on. */
export async function whileBusy(work) {
  const busy = [...document.querySelectorAll('[data-part="shelves"], [data-part="results"]')];
  busy.forEach((part) => part.setAttribute("aria-busy", "true"));
  try {
    return await work();
  } finally {
    busy.forEach((part) => part.removeAttribute("aria-busy"));
  }
}

/** Says something to a screen reader. */
export function say(text) {
  document.getElementById("said").textContent = text;
}
