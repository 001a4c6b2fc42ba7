/* The whole client side: ticked rows, confirm dialog, fragment poller, live preview, JSON check, keys. Every screen works without it. */
"use strict";

const find = (selector, root = document) => root.querySelector(selector);
const make = (parent, tag, properties = {}) => Object.assign(parent.appendChild(document.createElement(tag)), properties);
const known = document.getElementById("o-words")?.content;
const words = (text) => known?.querySelector(`[data-word="${CSS.escape(text)}"]`)?.textContent ?? text;
const dialogOpen = () => find("dialog[open]") !== null;

/* 1. Ticked rows: the bar of actions wakes up, and each button names its number. */
for (const bar of document.querySelectorAll("[data-acts]")) {
  const form = bar.closest("form");
  const buttons = [...bar.querySelectorAll("button[name=index]")];
  for (const button of buttons) button.dataset.label = button.textContent.trim();
  const update = () => {
    const across = find("input.select-across", bar)?.value === "1";
    const ticked = form.querySelectorAll("input.action-select:checked").length;
    const count = across ? bar.dataset.total || "" : ticked.toLocaleString(document.documentElement.lang || undefined);
    bar.classList.toggle("o-live", ticked > 0);
    bar.classList.toggle("o-idle", ticked === 0);
    for (const button of buttons) {
      const { label, labelN, confirmN } = button.dataset;
      button.textContent = ticked && labelN ? labelN.replace("{n}", count) : label;
      if (confirmN) button.dataset.confirm = confirmN.replace("{n}", count);
      button.disabled = ticked === 0;
    }
  };
  // After Django's own handlers, which set the boxes and select-across.
  form.addEventListener("change", () => setTimeout(update));
  form.addEventListener("click", () => setTimeout(update));
  addEventListener("pageshow", update);
  update();
}

/* 2. Confirm: any submit button with data-confirm. Cancel has the focus, Esc closes. */
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-confirm]");
  if (!button || button.disabled) return;
  event.preventDefault();
  const { form, textContent, name, value } = button;
  if (!form.reportValidity()) return;
  const action = button.getAttribute("formaction");
  const dialog = make(document.body, "dialog", { className: "o-dlg" });
  make(dialog, "h2", { id: "o-dlg-title", textContent: button.dataset.confirm });
  dialog.setAttribute("aria-labelledby", "o-dlg-title");
  if (button.dataset.confirmMore) make(dialog, "p", { textContent: button.dataset.confirmMore });
  const row = make(dialog, "div", { className: "o-row" });
  const cancel = make(row, "button", { type: "button", className: "o-btn o-push", textContent: words("Cancel") });
  const danger = button.classList.contains("o-btn-d") ? "o-btn-d" : "o-btn-p";
  const go = make(row, "button", { type: "button", className: `o-btn ${danger}`, textContent: textContent.trim() });
  cancel.addEventListener("click", () => dialog.close());
  go.addEventListener("click", () => {
    dialog.close();
    // A stand-in: a poll may have swapped the pressed button away while the dialog was open.
    const submitter = make(form, "button", { hidden: true, name, value });
    if (action) submitter.setAttribute("formaction", action);
    form.requestSubmit(submitter);
    button.disabled = true;
    submitter.remove();
  });
  // The browser gives the focus back at once, this is told later: somebody quick may be elsewhere by then.
  dialog.addEventListener("close", () => { dialog.remove(); if (document.activeElement === document.body) button.focus(); });
  dialog.showModal();
  cancel.focus();
});

/* 3. Poller: <div data-poll="/url" data-every="2000">. Answers: 200 swaps, 304 keeps, X-Poll-Stop ends it. */
function poll(box) {
  const every = Number(box.dataset.every) || 2000;
  const note = box.parentElement && find("[data-poll-say]", box.parentElement);
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
  let wait = every, etag = "", timer, busy = false;

  const swap = (html) => {
    const focused = box.contains(document.activeElement) ? document.activeElement.id : "";
    const opened = [...box.querySelectorAll("details[id][open]")].map((details) => details.id);
    const scrolled = find(".o-scroll", box)?.scrollLeft || 0;
    box.innerHTML = html;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    if (scrolled && find(".o-scroll", box)) find(".o-scroll", box).scrollLeft = scrolled;
  };

  const ask = async (signal) => {
    const headers = { "X-Fragment": "1", ...(etag && { "If-None-Match": etag }) };
    const response = await fetch(box.dataset.poll, { headers, signal, cache: "no-store", redirect: "manual" });
    // An opaque redirect is the way to the login page.
    if (response.type === "opaqueredirect" || response.status === 401 || response.status === 403) {
      say(words("You are signed out. Reload the page."));
      return false;
    }
    if (response.status === 200) {
      const html = await response.text();
      if (dialogOpen()) return true; // never swap the button that a dialog will press
      swap(html);
      etag = response.headers.get("ETag") || "";
    } else if (response.status !== 304) throw new Error(`status ${response.status}`);
    wait = every;
    say("");
    return !response.headers.has("X-Poll-Stop");
  };

  const tick = async () => {
    if (busy) return;
    busy = true;
    let more = true;
    const patience = new AbortController(); // a cut cable answers nothing for minutes, and old figures would look like new ones
    const limit = setTimeout(() => patience.abort(), 20000);
    try {
      if (!document.hidden && !dialogOpen()) more = await ask(patience.signal);
    } catch {
      wait = Math.min(wait * 2, 30000);
      say(words("No answer from the server, trying again…"));
    }
    busy = false;
    clearTimeout(limit);
    clearTimeout(timer);
    if (more) timer = setTimeout(tick, wait * (0.9 + Math.random() * 0.2));
    else document.removeEventListener("visibilitychange", wake);
  };
  const wake = () => { if (!document.hidden) { wait = every; clearTimeout(timer); tick(); } };
  document.addEventListener("visibilitychange", wake);
  timer = setTimeout(tick, every);
}
document.querySelectorAll("[data-poll]").forEach(poll);

/* 4. Live preview: [data-preview="/url"] of a form, or in one, is (or fills `data-into`) what the server makes of what is typed;
   data-preview-fields="a b" narrows what is sent. The last answer wins. */
for (const host of document.querySelectorAll("[data-preview]")) {
  const form = host.closest("form");
  const only = host.dataset.previewFields?.split(" ");
  const secret = (name) => name === "csrfmiddlewaretoken" || (only && !only.includes(name));
  const typed = () => String(new URLSearchParams([...new FormData(form)].filter(([name, value]) => !secret(name) && typeof value === "string")));
  let timer, asked, shown = typed();
  const show = async () => {
    const query = typed();
    if (query === shown) return;
    shown = query;
    asked?.abort();
    asked = new AbortController();
    const into = host.dataset.into ? find(host.dataset.into) : host;
    try {
      const response = await fetch(`${host.dataset.preview}?${query}`, { signal: asked.signal, headers: { "X-Fragment": "1" }, redirect: "manual" });
      if (response.ok) into.innerHTML = await response.text();
    } catch (problem) {
      if (problem.name !== "AbortError") into.textContent = words("No answer from the server.");
    }
  };
  const later = (event) => {
    if (only && !only.includes(event.target.name)) return;
    clearTimeout(timer);
    timer = setTimeout(show, 200);
  };
  form.addEventListener("input", later);
  form.addEventListener("change", later);
}

/* 5. JSON fields: checked while typing, with the line; a button [data-format="id"] tidies. */
const kinds = { array: (value) => Array.isArray(value), object: (value) => value !== null && typeof value === "object" && !Array.isArray(value) };
for (const area of document.querySelectorAll("textarea[data-json]")) {
  const says = document.getElementById(`${area.id}_json`) || make(area.parentElement, "span", { id: `${area.id}_json` });
  says.setAttribute("role", "status");
  area.setAttribute("aria-describedby", [area.getAttribute("aria-describedby"), says.id].filter(Boolean).join(" "));
  const verdict = (text, bad) => {
    area.setAttribute("aria-invalid", String(bad));
    says.className = bad ? "o-err" : "o-quiet";
    says.textContent = text;
  };
  const check = () => {
    const kind = area.dataset.json;
    try {
      const value = JSON.parse(area.value.trim() || "null");
      const fits = area.value.trim() === "" || !kinds[kind] || kinds[kind](value);
      verdict(fits ? words("Valid JSON.") : `${words("Needed here: a JSON")} ${kind}.`, !fits);
      return fits ? value : undefined;
    } catch (problem) {
      const at = /position (\d+)/.exec(problem.message);
      const line = at ? ` (${words("line")} ${area.value.slice(0, Number(at[1])).split("\n").length})` : "";
      verdict(problem.message.replace(/ in JSON at position.*$/, "") + line, true);
      return undefined;
    }
  };
  area.addEventListener("input", check);
  find(`[data-format="${area.id}"]`)?.addEventListener("click", () => {
    const value = check();
    if (value !== undefined && value !== null) area.value = JSON.stringify(value, null, 2);
  });
}

/* 6. Menus close on Esc and on a click elsewhere. */
const menus = "details.o-menu[open], details.o-filter[open], details.o-pop[open]";
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !dialogOpen()) for (const menu of document.querySelectorAll(menus)) { menu.open = false; find("summary", menu).focus(); }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(menus)) if (!menu.contains(event.target)) menu.open = false;
});

/* 7. On a phone the tabs scroll sideways: the current one must be seen. */
for (const tab of document.querySelectorAll(".o-tabs [aria-current]")) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 40;

/* 8. Copy: <button data-copy="id">. */
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  const before = button.textContent;
  button.textContent = words("Copied");
  setTimeout(() => { button.textContent = before; }, 1500);
});

/* 9. The server tells times by the clocks of whoever looks (config/viewer_zone.py), from the second page on. */
document.cookie = `zone=${encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone)}; path=/; max-age=31536000; SameSite=Lax`;

/* 10. Dialogs that are pages, too: <a data-dialog href="/form">. Without an answer the page itself is opened. */
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  let html = "";
  try {
    const response = await fetch(link.href, { headers: { "X-Fragment": "1" }, redirect: "manual" });
    if (response.ok) html = await response.text();
  } catch { /* opened as a page below */ }
  if (!html) { location.assign(link.href); return; }
  const dialog = make(document.body, "dialog", { className: "o-dlg o-dlg-wide" });
  dialog.setAttribute("aria-label", link.getAttribute("aria-label") || link.textContent.trim());
  dialog.innerHTML = html;
  const close = find("[data-close]", dialog);
  close?.addEventListener("click", (pressed) => { pressed.preventDefault(); dialog.close(); });
  dialog.addEventListener("close", () => { dialog.remove(); if (document.activeElement === document.body) link.focus(); });
  dialog.showModal();
  close?.focus();
});

/* 11. Keys: / j k x r ?. Not while somebody types, not with a modifier, and not for who has switched them off. */
document.documentElement.classList.add("o-js");
const keys = document.getElementById("o-keys");
const keysOn = document.getElementById("o-keys-on");
const rows = () => [...document.querySelectorAll("#result_list tbody tr, .o-rows tbody tr")];
const linkOf = (row) => find("th a, td a, a", row);
const rowOf = (element) => element?.closest?.("#result_list tbody tr, .o-rows tbody tr");
const go = (step) => {
  const all = rows().filter(linkOf);
  const next = all[Math.max(0, Math.min(all.length - 1, all.indexOf(rowOf(document.activeElement)) + step))];
  if (next) linkOf(next).focus();
};
const replay = () => {
  const here = rowOf(document.activeElement) || find("main");
  const button = find("button[formaction*='replay'], button[data-key=r]", here);
  if (button && (here.tagName === "TR" || document.querySelectorAll("main button[formaction*='replay'], main button[data-key=r]").length === 1 || button.dataset.key)) button.click();
};
const acts = {
  "/": () => find("#searchbar, input[type=search]:not(#nav-filter)")?.focus(),
  "j": () => go(1),
  "k": () => go(-1),
  "x": () => find("input.action-select", rowOf(document.activeElement) || document.createElement("i"))?.click(),
  "r": replay,
  "?": () => keys.showModal(),
};
if (keys) {
  keysOn.checked = localStorage.getItem("o-keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("o-keys", keysOn.checked ? "on" : "off"));
  find("[data-close]", keys).addEventListener("click", () => keys.close());
  document.addEventListener("click", (event) => { if (event.target.closest?.("[data-keys]")) keys.showModal(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || dialogOpen() || !acts[event.key]) return;
    if (!keysOn.checked && event.key !== "?") return;
    event.preventDefault();
    acts[event.key]();
  });
}
