// Suggestions under the search box: the ARIA combobox pattern with a list, for keys and pointer.

const PAUSE = 110; // milliseconds without a key before the server is asked

export function combobox(form) {
  const input = form.querySelector("input[name=q]");
  const list = form.querySelector("[role=listbox]");
  let timer = 0;
  let asking = null;
  let active = -1;
  let typed = input.value;

  for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list" })) input.setAttribute(name, value);

  const options = () => [...list.children];

  function close() {
    clearTimeout(timer);
    asking?.abort();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate(-1, false);
  }

  function activate(place, fill = true) {
    active = place;
    options().forEach((option, at) => option.setAttribute("aria-selected", String(at === place)));
    const option = options()[place];
    if (option) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
    if (fill) input.value = option ? option.dataset.text : typed;
  }

  function show(texts) {
    list.replaceChildren(...texts.map((text, at) => optionOf(text, at)));
    list.hidden = !texts.length;
    input.setAttribute("aria-expanded", String(texts.length > 0));
    activate(-1, false);
    const words = texts.length === 1 ? input.dataset.one : texts.length ? input.dataset.many.replace("{count}", texts.length) : input.dataset.none;
    document.getElementById("said").textContent = words;
  }

  function optionOf(text, at) {
    const option = document.createElement("li");
    option.id = `${list.id}-${at}`;
    option.dataset.text = text;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    const start = Math.max(text.toLowerCase().indexOf(typed.trim().toLowerCase()), 0);
    const end = text.toLowerCase().includes(typed.trim().toLowerCase()) ? start + typed.trim().length : start;
    const words = document.createElement("span");
    const [before, after] = [text.slice(0, start), text.slice(end)].map((rest) => {
      const mark = document.createElement("mark"); // what the shop adds to what was typed
      mark.textContent = rest;
      return mark;
    });
    words.append(before, text.slice(start, end), after);
    option.append(words);
    return option;
  }

  async function ask() {
    asking?.abort();
    asking = new AbortController();
    try {
      const answer = await fetch(`${form.dataset.suggest}?q=${encodeURIComponent(typed)}`, { signal: asking.signal, credentials: "same-origin" });
      if (!answer.ok) throw new Error(answer.status);
      const found = await answer.json();
      if (document.activeElement === input) show(found.suggestions);
    } catch (error) {
      if (error.name !== "AbortError") close(); // a search box without suggestions still searches
    }
  }

  input.addEventListener("input", () => {
    typed = input.value;
    clearTimeout(timer);
    if (!typed.trim()) return close();
    timer = setTimeout(ask, PAUSE);
  });

  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    const count = options().length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return void (typed.trim() && ask());
      const step = event.key === "ArrowDown" ? 1 : -1;
      activate(((active + 1 + step + count + 1) % (count + 1)) - 1); // -1, what was typed, is one of the places
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (open) {
        input.value = typed;
        close();
      } else {
        input.value = typed = "";
      }
    } else if (event.key === "Enter") close();
  });

  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the box
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    input.value = option.dataset.text;
    close();
    form.requestSubmit();
  });
  input.addEventListener("blur", close);
  form.addEventListener("submit", (event) => {
    if (!input.value.trim()) event.preventDefault();
  });
}
