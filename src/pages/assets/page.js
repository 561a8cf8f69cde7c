// What a page cannot do by itself. Everything here is an addition: without it the pages can be read and
// their forms be sent. Text that comes from elsewhere is only ever put in place as text.
"use strict";

const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";
const $ = (id) => document.getElementById(id);

// -- Dark and light: a cookie, so that the server knows before the page is drawn.

const theme = $("theme");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const nameTheme = () => {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to ${theme.textContent.toLowerCase()} colours`);
};
if (theme) {
  theme.hidden = false;
  nameTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  theme.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    document.cookie = `theme=${next}; Path=/; Max-Age=31536000; SameSite=Lax; Secure`;
    nameTheme();
  });
}

// -- Times that say how long ago, and bars of stages that work.

const rough = (s) =>
  s < 1 ? "0 s" : s < 100 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
let drawn = performance.now();
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const s = (Date.now() - Date.parse(time.dateTime)) / 1000;
    time.textContent = s >= 0 ? `${rough(s)} ago` : `in ${rough(-s)}`;
  }
}, 10000);
setInterval(() => {
  const s = (performance.now() - drawn) / 1000;
  for (const bar of document.querySelectorAll("svg[data-since]")) {
    const share = Math.min(100, ((Number(bar.dataset.since) + s) / Number(bar.dataset.scale)) * 100);
    bar.querySelector(".fill").setAttribute("width", `${share}%`);
  }
}, 250);

// -- Tables on small screens: each value says which column it is of.

const tell = (root) => {
  for (const table of root.querySelectorAll(".scroll > table")) {
    const heads = [...table.querySelectorAll("thead th")].map((one) => one.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.children].forEach((cell, n) => {
        cell.dataset.head = heads[n] ?? "";
        cell.classList.toggle("blank", !cell.textContent.trim() && !cell.querySelector("svg, input"));
        // What stands beside something else in a cell stays beside it.
        if (cell.childNodes.length > 1 && !cell.querySelector(":scope > .whole")) {
          const whole = document.createElement("div");
          whole.className = "whole";
          whole.append(...cell.childNodes);
          cell.append(whole);
        }
      });
    }
    table.classList.add("told");
  }
};
tell(document);

// -- Live: when an event comes, the page is fetched anew and the parts that may change are put in place.

const live = $("live");
let fetching = false, again = false;
async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected || !answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      // Nobody's half-written answer is taken away.
      const busy = part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
      if (!next || busy || part.querySelector("details.ask[open]")) continue;
      const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
      const held = part.contains(document.activeElement) ? document.activeElement.id : "";
      part.className = next.className;
      part.replaceChildren(...next.childNodes);
      for (const id of open) $(id)?.setAttribute("open", "");
      if (held) $(held)?.focus();
    }
    tell(document);
    drawn = performance.now();
    if (fresh.body.dataset.events === undefined) stop?.();
  } finally {
    fetching = false;
    if (again) { again = false; setTimeout(refresh, 300); }
  }
}
let stop;
const events = document.body.dataset.events;
if (events && window.EventSource) {
  const source = new EventSource(events);
  live.hidden = false;
  source.onopen = () => live.classList.remove("off");
  source.onerror = () => live.classList.add("off");
  source.addEventListener("run", (event) => {
    document.body.dataset.heard = event.lastEventId;
    refresh();
  });
  // What makes no event (a machine that comes up, a bar that grows past its scale) shows a little later.
  const pulse = setInterval(refresh, 2000);
  stop = () => { source.close(); clearInterval(pulse); live.hidden = true; };
  addEventListener("pagehide", () => source.close());
}

// -- Logs: all that the stages print, as they print it.

const log = $("log");
const LONGEST = 400000;
async function follow() {
  const answer = await fetch(log.dataset.log);
  if (!answer.ok || !answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", last = "", length = 0, empty = true;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const piece = JSON.parse(line);
      if (empty) { log.replaceChildren(); $("cut")?.remove(); empty = false; }
      if (piece.attempt !== last) {
        last = piece.attempt;
        const from = document.createElement("span");
        from.className = "from";
        from.textContent = `${piece.stage}${piece.purpose === "work" ? "" : ` (${piece.purpose})`} · try ${piece.number}`;
        log.append(from, "\n");
      }
      const text = document.createElement("span");
      text.className = piece.stream === "err" ? "err" : "out";
      text.textContent = piece.text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, (c) => (c === "\r" ? "" : "\ufffd"));
      log.append(text);
      length += piece.text.length;
      while (length > LONGEST && log.firstChild) { length -= log.firstChild.textContent.length; log.firstChild.remove(); }
    }
    if ($("follow").checked) log.scrollTop = log.scrollHeight;
  }
}
if (log?.dataset.log) {
  $("logbar").hidden = false;
  log.scrollTop = log.scrollHeight;
  follow().catch(() => {});
}

// -- Editors: numbers beside the lines, faults with their places while one writes, a form beside the text.

const later = (wait, work) => {
  let timer;
  return (...args) => { clearTimeout(timer); timer = setTimeout(() => work(...args), wait); };
};
const encoder = new TextEncoder(), decoder = new TextDecoder();

function gutter(area, faulty) {
  const column = area.closest(".sheet")?.querySelector(".gutter");
  if (!column) return;
  const count = area.value.split("\n").length;
  const marked = new Set(faulty);
  column.replaceChildren(...Array.from({ length: count }, (_, n) => {
    const number = document.createElement("span");
    number.textContent = n + 1;
    if (marked.has(n + 1)) number.className = "faulty";
    return number;
  }));
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 4}px`;
}

function place(area, fault) {
  const bytes = encoder.encode(area.value);
  const at = (byte) => decoder.decode(bytes.slice(0, byte)).length;
  area.focus();
  area.setSelectionRange(at(fault.start), Math.max(at(fault.end), at(fault.start) + 1));
}

function listed(area, fault, isWarning) {
  const item = document.createElement("li");
  if (isWarning) item.className = "warning";
  const link = document.createElement("a");
  link.href = `#${area.id}`;
  link.textContent = `${fault.line}:${fault.column}`;
  link.addEventListener("click", (event) => { event.preventDefault(); place(area, fault); });
  item.append(link, ` ${fault.path ? `${fault.path}: ` : ""}${fault.detail}`);
  for (const [word, text] of [["expected", fault.expected], ["", fault.suggestion]]) {
    if (!text) continue;
    const help = document.createElement("span");
    help.className = "help";
    help.textContent = word ? `${word} ${text}` : text;
    item.append(help);
  }
  return item;
}

for (const form of document.querySelectorAll("form[data-check]")) {
  const area = form.querySelector("textarea[name=source]");
  const list = form.querySelector("[data-faults]");
  const verdict = form.querySelector("[data-verdict]");
  let turn = 0;
  const ask = async (set) => {
    const mine = ++turn;
    verdict.textContent = "checking …";
    const fields = new URLSearchParams(new FormData(form));
    fields.delete("do");
    for (const key of [...fields.keys()].filter((key) => key.startsWith("set:"))) fields.delete(key);
    if (set) fields.append(`set:${set.name}`, set.value);
    const answer = await fetch(form.dataset.check, { method: "POST", body: fields, headers: { "X-CSRF-Token": csrf, Accept: "application/json" } });
    if (mine !== turn) return;
    if (!answer.ok) { verdict.textContent = `not checked (${answer.status})`; return; }
    const said = await answer.json();
    if (mine !== turn) return;
    if (said.source !== undefined && said.source !== area.value) area.value = said.source;
    list.replaceChildren(...said.faults.map((one) => listed(area, one, false)), ...said.warnings.map((one) => listed(area, one, true)));
    gutter(area, said.faults.map((one) => one.line));
    verdict.textContent = said.verdict;
    verdict.className = said.faults.length ? "state is-bad" : "state is-good";
    for (const [name, field] of Object.entries(said.fields ?? {})) {
      const inputs = [...form.querySelectorAll("[data-set]")].filter((one) => one.dataset.set === name);
      for (const input of inputs) {
        if (input === document.activeElement && input.type !== "checkbox") continue;
        input.disabled = field.written_otherwise;
        input.placeholder = field.inherited;
        if (input.type === "checkbox") input.checked = field.value.split(",").includes(input.value);
        else input.value = field.value;
      }
    }
  };
  const soon = later(350, () => ask());
  area.addEventListener("input", () => { gutter(area, []); soon(); });
  for (const input of form.querySelectorAll("[data-set]")) {
    input.addEventListener("change", () => {
      const name = input.dataset.set;
      const value = input.type === "checkbox"
        ? [...form.querySelectorAll("[data-set]")].filter((one) => one.dataset.set === name && one.checked).map((one) => one.value).join(",")
        : input.value;
      ask({ name, value });
    });
  }
  for (const file of form.querySelectorAll("textarea[data-file]")) file.addEventListener("input", soon);
  gutter(area, [...list.querySelectorAll("[data-line]")].map((one) => Number(one.dataset.line)));
  ask();
}
