// An item in a dialog over the shelves. Its link works as a page of its own where there is no script.
import { fetchParts, replaceParts, say } from "./parts.js";

const panel = document.getElementById("panel");
let from = null;
let asked = 0;

export function isOpen() {
  return panel.open;
}

export function close() {
  panel.close();
}

/** Shows the item behind a link; resolves to true when the server has seen the view. */
export async function open(link) {
  const number = ++asked;
  if (!panel.open) {
    from = link;
    fill(skeleton());
    panel.showModal();
  } else panel.setAttribute("aria-busy", "true");
  try {
    const { parts } = await fetchParts(link.href);
    if (number !== asked) return false;
    const item = parts.querySelector('[data-part="item"]');
    if (!item) throw new Error("no item in the answer");
    fill(document.adoptNode(item));
    panel.scrollTop = 0;
    replaceParts(parts, ["basket-link"]);
    panel.querySelector("#panel-title")?.focus();
    return true;
  } catch (error) {
    if (number === asked) location.assign(link.href);
    return false;
  } finally {
    panel.removeAttribute("aria-busy");
  }
}

function fill(content) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "panel-close";
  button.setAttribute("aria-label", panel.dataset.close);
  button.innerHTML = '<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="M6 6l12 12M18 6 6 18"/></svg>';
  button.addEventListener("click", () => panel.close());
  content.querySelector("#panel-title")?.setAttribute("tabindex", "-1");
  panel.replaceChildren(button, content);
}

function skeleton() {
  const box = document.createElement("div");
  box.className = "skeleton";
  const title = document.createElement("h1");
  title.id = "panel-title";
  title.className = "hidden";
  title.textContent = panel.dataset.loading;
  box.append(...Array.from({ length: 3 }, () => document.createElement("i")), title);
  return box;
}

panel.addEventListener("click", (event) => {
  const box = panel.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (event.target === panel && !inside) panel.close(); // the backdrop; keys give 0, 0 on a control, not on the dialog
});

panel.addEventListener("close", () => {
  asked += 1;
  panel.replaceChildren();
  if (!from) return;
  const item = from.closest("[data-item]")?.dataset.item;
  const link = from.isConnected ? from : item && document.querySelector(`[data-item="${CSS.escape(item)}"] .card-link`);
  (link || document.getElementById("main")).focus({ preventScroll: true });
  from = null;
  say("");
});
