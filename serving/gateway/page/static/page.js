// What the page does better with a script. Without one every link and form below works as it is.
import { combobox } from "./combobox.js";
import * as panel from "./panel.js";
import { fetchParts, replaceParts, say, whileBusy } from "./parts.js";

const words = document.getElementById("panel").dataset;
document.documentElement.classList.add("scripted");
document.querySelectorAll("form[data-suggest]").forEach(combobox);

/** The lists of this page, fetched again: what was just done is part of what they are made from. */
async function refresh() {
  await whileBusy(async () => {
    const { parts } = await fetchParts(location.href);
    replaceParts(parts);
  });
  say(words.updated);
}

function failed(error) {
  console.error(error);
  say(words.failed);
  const notice = document.createElement("p");
  notice.className = "notice warning";
  notice.textContent = words.failed;
  document.querySelector('[data-part="notices"]')?.replaceChildren(notice);
}

document.addEventListener("click", (event) => {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.defaultPrevented) return;
  const link = event.target.closest("a[data-panel], a[data-into]");
  if (!link) return;
  event.preventDefault();
  const work = link.matches("[data-into]") ? explain(link.href) : panel.open(link).then((seen) => seen && refresh());
  work.catch(failed);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form[data-enhance]")) {
    event.preventDefault();
    if (form.dataset.busy) return;
    send(form).catch(failed);
  } else if (form.matches("form[data-into]")) {
    event.preventDefault();
    explain(`${form.action}?${new URLSearchParams(new FormData(form))}`).catch(failed);
  }
});

/** One event of the shopper: sent once however often the button is pressed. */
async function send(form) {
  form.dataset.busy = "1";
  const card = form.matches("[data-removes]") ? form.closest(".card") : null;
  card?.classList.add("going");
  const body = new URLSearchParams(new FormData(form));
  body.set("next", location.pathname + location.search);
  try {
    await whileBusy(async () => {
      const { parts, ok } = await fetchParts(form.action, { method: "POST", body });
      if (form.matches("[data-closes]") && panel.isOpen()) panel.close();
      replaceParts(parts, ok ? null : ["notices"]);
      if (!ok) card?.classList.remove("going");
      say(ok ? words.updated : words.failed);
    });
    const id = form.querySelector("[name=event_id]");
    if (id) id.value = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // where the form stays, the next press is another event
  } catch (error) {
    card?.classList.remove("going");
    throw error;
  } finally {
    delete form.dataset.busy;
  }
}

async function explain(url) {
  const { parts } = await fetchParts(url);
  const engine = document.getElementById("engine");
  if (engine) engine.open = true;
  replaceParts(parts, ["explanation"]);
  document.querySelector("#engine [data-part=explanation]")?.scrollIntoView({ block: "nearest" });
}

// Changing the order swaps the results in place; the focus stays on the list of orders.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (!form) return;
  const url = `${form.action}?${new URLSearchParams(new FormData(form))}`;
  whileBusy(async () => {
    const { parts } = await fetchParts(url);
    replaceParts(parts);
    history.replaceState(null, "", url);
    say(words.updated);
  }).catch(failed);
});

// The engineers' panel stays as it was left, from page to page.
const engine = () => document.getElementById("engine");
if (engine() && sessionStorage.getItem("engine") === "open") engine().open = true;
document.addEventListener("toggle", (event) => {
  if (event.target.id === "engine") sessionStorage.setItem("engine", event.target.open ? "open" : "closed");
}, true);

// The list of people closes as menus do.
const chooser = document.querySelector(".chooser");
document.addEventListener("pointerdown", (event) => {
  if (chooser?.open && !chooser.contains(event.target)) chooser.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !chooser?.open) return;
  chooser.open = false;
  chooser.querySelector("summary").focus();
});

// Figures that change by themselves, for as long as the box is ticked.
const live = document.querySelector("input[data-live]");
if (live) {
  live.closest("label").hidden = false;
  setInterval(async () => {
    if (!live.checked || document.hidden) return;
    try {
      replaceParts((await fetchParts(location.href)).parts, [live.dataset.live]);
    } catch (error) {
      live.checked = false;
      failed(error);
    }
  }, 1000 * Number(live.dataset.seconds));
}
