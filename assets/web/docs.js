// The documentation's behaviour: colour scheme, copying code, where one is on the page, search.
// Everything can be read without it; the controls that need it are shown by it.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with properties and children; text is always text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Colour scheme -----------------------------------------------------------------------------------------------------

const scheme = $(".scheme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.scheme ?? (systemDark.matches ? "dark" : "light")) === "dark";
const labelScheme = () => scheme.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours");

if (scheme) {
  scheme.hidden = false;
  labelScheme();
  systemDark.addEventListener("change", labelScheme);
  scheme.addEventListener("click", () => {
    const wanted = isDark() ? "light" : "dark";
    document.documentElement.dataset.scheme = wanted;
    // Back at what the system says: follow it again.
    const same = wanted === (systemDark.matches ? "dark" : "light");
    try {
      if (same) localStorage.removeItem("beacon-scheme");
      else localStorage.setItem("beacon-scheme", wanted);
    } catch {
      // Storage is switched off: the choice holds for this page.
    }
    if (same) delete document.documentElement.dataset.scheme;
    labelScheme();
  });
}

// Copying code ------------------------------------------------------------------------------------------------------

if (navigator.clipboard) {
  for (const block of $$(".code")) {
    const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText($("code", block).textContent.replace(/\n$/, ""));
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      button.classList.add("done");
      setTimeout(() => {
        button.textContent = "Copy";
        button.classList.remove("done");
      }, 1600);
    });
    block.append(button);
  }
}

// Where one is ------------------------------------------------------------------------------------------------------

// The current page in the middle of a long list of pages.
const pages = $("#pages");
const current = pages && $("[aria-current]", pages);
const centre = () => {
  if (current) pages.scrollTop = current.offsetTop - pages.clientHeight / 2;
};
pages?.addEventListener("toggle", centre);
centre();

// The section being read in the table of contents.
const entries = new Map($$("aside.contents a").map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const marks = [...entries.keys()].map((id) => document.getElementById(id)).filter(Boolean);
if (marks.length) {
  const follow = () => {
    const top = marks.findLast((mark) => mark.getBoundingClientRect().top < 120) ?? marks[0];
    for (const [id, link] of entries) {
      if (id === top.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      follow();
    });
  }, { passive: true });
  follow();
}

// Search ------------------------------------------------------------------------------------------------------------

/** Lower case without accents, everything but letters and digits a space; as long as the text, so that places agree. */
function fold(text) {
  return text
    .replace(/[^\x00-\x7f]/g, (unit) => unit.normalize("NFD")[0].toLowerCase()[0])
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\ud800-\udfff]/gu, (other) => " ".repeat(other.length));
}

/** One entry a section: a page before its first heading, or what stands under a heading. */
function prepare(index) {
  return index.flatMap(([title, address, above, sections]) => {
    // A page without text can be found by its title.
    const list = sections.length ? sections : [["", "", ""]];
    return list.map(([anchor, heading, text]) => ({
      title, heading, text, above,
      address: anchor ? `${address}#${encodeURIComponent(anchor)}` : address,
      folded: { title: ` ${fold(title)}`, heading: ` ${fold(heading)}`, text: ` ${fold(text)}` },
    }));
  });
}

/** What to look for: a word's beginning; any place in writing that puts no space between words. */
const needle = (term) => (/[\u0e00-\u0eff\u3040-\u9fff]/.test(term) ? term : ` ${term}`);

/** How well words beginning with `term` are found in `text`: 0, 1, or 1.5 for a whole word. */
function found(text, term) {
  if (!text.includes(needle(term))) return 0;
  return `${text} `.includes(` ${term} `) ? 1.5 : 1;
}

/** Sections that have all terms, the best first: title before heading before text. */
function search(sections, query) {
  const terms = fold(query).split(" ").filter(Boolean);
  const hits = [];
  for (const section of terms.length ? sections : []) {
    let score = 0;
    const { title, heading, text } = section.folded;
    const all = terms.every((term) => {
      const inTitle = found(title, term) * (section.heading ? 6 : 20);
      const here = inTitle + found(heading, term) * 10 + found(text, term);
      score += here;
      return here > 0;
    });
    // Found only by the page's title: its other sections add nothing.
    const own = !section.heading || terms.some((term) => found(heading, term) || found(text, term));
    if (all && own) hits.push({ section, score, terms });
  }
  return hits.sort((one, two) => two.score - one.score).slice(0, 20);
}

/** Text with the beginnings of words that were searched for marked. */
function marked(text, terms) {
  const folded = ` ${fold(text)}`;
  const spans = [];
  for (const term of terms) {
    const wanted = needle(term);
    // The space before the text makes a place of a word's space that of its first letter.
    const shift = wanted.length - term.length - 1;
    for (let at = folded.indexOf(wanted); at >= 0; at = folded.indexOf(wanted, at + 1)) {
      spans.push([at + shift, at + shift + term.length]);
    }
  }
  spans.sort((one, two) => one[0] - two[0]);
  const parts = [];
  let done = 0;
  for (const [from, to] of spans) {
    if (from < done) continue;
    parts.push(text.slice(done, from), make("mark", { textContent: text.slice(from, to) }));
    done = to;
  }
  return [...parts, text.slice(done)];
}

/** The part of a text around the first term. */
function snippet({ section, terms }) {
  const places = terms.map((term) => section.folded.text.indexOf(needle(term))).filter((at) => at >= 0);
  let from = Math.max(0, Math.min(...places, section.text.length) - 50);
  if (!places.length) from = 0;
  if (from > 0) from = section.text.indexOf(" ", from) + 1;
  let to = from + 170;
  // Not in the middle of a word, unless there is no space at all.
  if (to < section.text.length) to = Math.max(section.text.lastIndexOf(" ", to), from + 120);
  const cut = section.text.slice(from, to);
  return [from > 0 ? "… " : "", ...marked(cut, terms), to < section.text.length ? " …" : ""];
}

const opener = $(".find");
if (opener && HTMLDialogElement.prototype.showModal) {
  const lens = $("svg", opener).cloneNode(true);
  const input = make("input", {
    type: "text", enterkeyhint: "go", placeholder: "Search the documentation", autocomplete: "off", spellcheck: false, role: "combobox",
    "aria-label": "Search the documentation", "aria-controls": "results", "aria-expanded": "false", "aria-autocomplete": "list",
  });
  const close = make("button", { type: "button", className: "close", "aria-label": "Close, Esc" }, make("kbd", { textContent: "Esc" }));
  const list = make("ul", { id: "results", className: "results", role: "listbox", "aria-label": "Results" });
  const state = make("p", { className: "state", role: "status" });
  const dialog = make("dialog", { className: "search", "aria-label": "Search" },
    make("div", { className: "field" }, lens, input, close), state, list);
  document.body.append(dialog);
  opener.hidden = false;

  let sections;
  let hits = [];
  let chosen = -1;

  const choose = (at) => {
    chosen = at;
    [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === at)));
    if (at < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[at].id);
    list.children[at].scrollIntoView({ block: "nearest" });
  };
  const go = (at) => {
    dialog.close();
    location.href = opener.dataset.base + hits[at].section.address;
  };
  const show = () => {
    const query = input.value.trim();
    hits = sections ? search(sections, query) : [];
    list.replaceChildren(...hits.map((hit, at) => {
      const { title, heading, above } = hit.section;
      const where = [above, heading && title].filter(Boolean).join(" › ");
      const option = make("li", { id: `result-${at}`, role: "option" },
        make("span", { className: "where", textContent: where }),
        make("span", { className: "title" }, ...marked(heading || title, hit.terms)),
        make("span", { className: "snippet" }, ...snippet(hit)));
      option.addEventListener("click", () => go(at));
      option.addEventListener("pointermove", () => chosen !== at && choose(at));
      return option;
    }));
    list.scrollTop = 0;
    choose(hits.length ? 0 : -1);
    input.setAttribute("aria-expanded", String(hits.length > 0));
    state.textContent = !sections ? "Loading …" : query && !hits.length ? `Nothing found for “${query}”.` : "";
  };
  const load = async () => {
    try {
      const answer = await fetch(opener.dataset.index);
      if (!answer.ok) throw new Error(String(answer.status));
      sections = prepare(await answer.json());
      show();
    } catch {
      state.textContent = "The search index could not be loaded. Close and open the search to try again.";
    }
  };
  const open = () => {
    if (dialog.open) return;
    dialog.showModal();
    input.select();
    if (sections) return;
    state.textContent = "Loading …";
    load();
  };

  opener.addEventListener("click", open);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  input.addEventListener("input", show);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && hits.length) choose((chosen + step + hits.length) % hits.length);
    else if (event.key === "Enter" && chosen >= 0) go(chosen);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
    const command = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if (!slash && !command) return;
    event.preventDefault();
    open();
  });
}
